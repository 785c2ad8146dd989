# Cross-compiles for the Python in LEANTO_SYSROOT, which CMake asks about itself by running it; Debian splits its headers in two places.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CXX_FLAGS_INIT "-isystem $ENV{LEANTO_SYSROOT}/usr/include")
set(Python_EXECUTABLE "$ENV{LEANTO_SYSROOT}/python")
set(Python_INCLUDE_DIR "$ENV{LEANTO_SYSROOT}/usr/include/python3.11")
