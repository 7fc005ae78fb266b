// Base64 (RFC 4648, the standard alphabet).
#pragma once
#include <string>
#include <string_view>

namespace linnet::serve {

void put_base64(std::string& out, std::string_view bytes);
// False for what is not base64. The '=' at the end may be missing.
bool from_base64(std::string_view text, std::string& bytes);

}  // namespace linnet::serve
