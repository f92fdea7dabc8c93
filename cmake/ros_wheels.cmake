# Makes CMakeLists.txt work over the ROS 2 wheels of PyPI. Given to CMake from outside, so that CMakeLists.txt stays
# what it is in any ROS 2 workspace:
#   cmake -DCMAKE_PROJECT_INCLUDE=cmake/ros_wheels.cmake -DROS_WHEELS_PREFIX=PREFIX ...
# PREFIX is the environment that the wheels are installed in (the folder that holds share/ament_index).

if(NOT EXISTS "${ROS_WHEELS_PREFIX}/share/ament_index")
  message(FATAL_ERROR "ROS_WHEELS_PREFIX='${ROS_WHEELS_PREFIX}' holds no ROS 2 wheels (share/ament_index is missing)")
endif()
list(PREPEND CMAKE_PREFIX_PATH "${ROS_WHEELS_PREFIX}")
set(ENV{AMENT_PREFIX_PATH} "${ROS_WHEELS_PREFIX}")

# Some of the wheels' exported targets name an include folder that their wheel does not hold, which CMake refuses; and
# a target of ours whose include folders lie in an environment below the source folder (.venv) could not be exported.
function(_mend_include_directories)
  get_property(imported DIRECTORY PROPERTY IMPORTED_TARGETS)
  get_property(built DIRECTORY PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target ${imported} ${built})
    get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(folders)
      set(kept "")
      foreach(folder ${folders})
        cmake_path(IS_PREFIX ROS_WHEELS_PREFIX "${folder}" in_wheels)
        if(in_wheels AND target IN_LIST built)
          list(APPEND kept "$<BUILD_INTERFACE:${folder}>")
        elseif(folder MATCHES "^\\$<" OR EXISTS "${folder}")
          list(APPEND kept "${folder}")
        endif()
      endforeach()
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${kept}")
    endif()
  endforeach()
endfunction()
cmake_language(DEFER CALL _mend_include_directories)
