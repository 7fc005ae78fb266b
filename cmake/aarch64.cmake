# Toolchain for 64-bit ARM Linux on a Debian or Ubuntu machine (packages g++-aarch64-linux-gnu and qemu-user):
#   cmake -G Ninja -B build-arm -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64.cmake . && ninja -C build-arm
#   qemu-aarch64 -L /usr/aarch64-linux-gnu build-arm/linnet-run model.onnx
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
