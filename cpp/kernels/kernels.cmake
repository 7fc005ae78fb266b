# linnet_kernels: one translation unit per instruction set, each with its own flags. Optimised even in debug builds, and
# never under LTO: a function compiled for one instruction set must not be inlined or merged elsewhere.
set(LINNET_KERNELS_DIR ${CMAKE_CURRENT_LIST_DIR})
set(LINNET_KERNEL_FLAGS -O3 -fno-math-errno -fno-trapping-math -fwrapv -ffp-contract=fast -fno-lto -fno-exceptions
    -fno-rtti -fno-asynchronous-unwind-tables -Wno-psabi -Wno-maybe-uninitialized -Wno-uninitialized -Wno-ignored-attributes)
if(LINNET_SANITIZE)
  # Instrumented tiles take minutes to compile; linnet-kernel-test puts its inputs before unreadable pages instead. What
  # is watched here are the callers: speed does not count.
  list(APPEND LINNET_KERNEL_FLAGS -fno-sanitize=all -O1)
endif()
set(LINNET_KERNEL_TABLES generic)
set(LINNET_FLAGS_generic -Os)  # a fallback and a reference: size counts
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  list(APPEND LINNET_KERNEL_TABLES avx2 avx512)
  set(LINNET_FLAGS_avx2 -mavx2 -mfma -mf16c)
  set(LINNET_FLAGS_avx512 -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni
      -mprefer-vector-width=512)
  # The tiles of AMX are used by one kernel of the AVX-512 table, in a table of their own.
  include(CheckCXXCompilerFlag)
  check_cxx_compiler_flag("-mamx-tile -mamx-int8" LINNET_HAS_AMX)
  if(LINNET_HAS_AMX AND CMAKE_SYSTEM_NAME STREQUAL "Linux")
    list(APPEND LINNET_FLAGS_avx512 -mamx-tile -mamx-int8 -DLINNET_AMX)
    set_source_files_properties(${LINNET_KERNELS_DIR}/dispatch.cpp ${LINNET_KERNELS_DIR}/selftest_bench_s8.cpp
      PROPERTIES COMPILE_DEFINITIONS LINNET_AMX)
  endif()
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  list(APPEND LINNET_KERNEL_TABLES neon neon_dot)
  set(LINNET_FLAGS_neon_dot -march=armv8.2-a+dotprod)
endif()

add_library(linnet_kernels OBJECT ${LINNET_KERNELS_DIR}/dispatch.cpp ${LINNET_KERNELS_DIR}/taps.cpp)
foreach(table IN LISTS LINNET_KERNEL_TABLES)
  target_sources(linnet_kernels PRIVATE ${LINNET_KERNELS_DIR}/table_${table}.cpp)
  set_source_files_properties(${LINNET_KERNELS_DIR}/table_${table}.cpp PROPERTIES
    COMPILE_OPTIONS "${LINNET_KERNEL_FLAGS};${LINNET_FLAGS_${table}}")
endforeach()
target_include_directories(linnet_kernels PUBLIC ${LINNET_KERNELS_DIR}/..)
set_target_properties(linnet_kernels PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_STANDARD 20
  CXX_STANDARD_REQUIRED ON INTERPROCEDURAL_OPTIMIZATION OFF)

# linnet-kernel-test: every table of this CPU against plain loops.
if(LINNET_TOOLS)
  file(GLOB LINNET_SELFTEST_FILES CONFIGURE_DEPENDS ${LINNET_KERNELS_DIR}/selftest*.cpp)
  add_executable(linnet-kernel-test ${LINNET_SELFTEST_FILES} $<TARGET_OBJECTS:linnet_kernels>)
  target_include_directories(linnet-kernel-test PRIVATE ${LINNET_KERNELS_DIR}/..)
  set_target_properties(linnet-kernel-test PROPERTIES CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON)
endif()
