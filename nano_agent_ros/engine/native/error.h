// Errors that cross the C interface as a code and a message.
#pragma once

#include <stdexcept>
#include <string>

namespace nano {

class Error : public std::runtime_error {
public:
    Error(int code, const std::string& message) : std::runtime_error(message), code_(code) {}
    int code() const { return code_; }

private:
    int code_;
};

}  // namespace nano
