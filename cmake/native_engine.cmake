# libnano_engine.so: every C++ source of the native engine. A source named after an instruction set (*_avx2.cpp,
# *_avxvnni.cpp, *_avx512.cpp, *_neon.cpp) may use those instructions; which kernels run is decided by the processor that it
# finds itself on.

find_package(Threads REQUIRED)

get_filename_component(native_dir ${CMAKE_CURRENT_LIST_DIR}/../nano_agent_ros/engine/native ABSOLUTE)
file(GLOB native_sources CONFIGURE_DEPENDS ${native_dir}/*.cpp)
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|amd64|AMD64)$")
  list(FILTER native_sources EXCLUDE REGEX "_avx(2|vnni|512)\\.cpp$")
endif()
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
  list(FILTER native_sources EXCLUDE REGEX "_neon\\.cpp$")
endif()

add_library(nano_engine SHARED ${native_sources})
target_compile_features(nano_engine PRIVATE cxx_std_17)
target_compile_options(nano_engine PRIVATE -O3 -Wall -Wextra -Wconversion)
target_link_libraries(nano_engine PRIVATE Threads::Threads)
set_target_properties(nano_engine PROPERTIES
  CXX_EXTENSIONS OFF
  CXX_VISIBILITY_PRESET hidden
  VISIBILITY_INLINES_HIDDEN ON)

foreach(source ${native_sources})
  if(source MATCHES "_avx512\\.cpp$")
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
      "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vnni;-mfma;-mf16c")
  elseif(source MATCHES "_avx2\\.cpp$")
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c")
  elseif(source MATCHES "_avxvnni\\.cpp$")
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c;-mavxvnni")
  elseif(source MATCHES "_neon\\.cpp$")
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-march=armv8.2-a+dotprod")
  endif()
endforeach()
