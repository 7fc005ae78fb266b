# find_package(linnet) gives the target linnet::linnet.
include(${CMAKE_CURRENT_LIST_DIR}/linnet-targets.cmake)
