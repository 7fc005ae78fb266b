# The native faces: the shared library with the C interface, the command linnet-run, what is installed.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

if(LINNET_LIBRARY)
  # Training stays in the Python module and in linnet-run: the library is for inference, and small.
  add_library(linnet SHARED cpp/bindings/c.cpp cpp/bindings/no_training.cpp
    "$<FILTER:$<TARGET_OBJECTS:linnet_objects>,EXCLUDE,/(training|gradient|gradient_rules|postfix)[.]cpp>")
  add_library(linnet::linnet ALIAS linnet)
  target_compile_definitions(linnet PRIVATE LINNET_BUILD LINNET_VERSION="${PROJECT_VERSION}")
  target_link_libraries(linnet PRIVATE $<BUILD_INTERFACE:linnet_kernels> $<BUILD_INTERFACE:Threads::Threads>)
  target_include_directories(linnet PRIVATE cpp cpp/include INTERFACE
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/cpp/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  set_target_properties(linnet PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION 0)
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    # Instances of the standard library's templates are visible whatever the compiler is told: only the linker hides them.
    set(LINNET_EXPORTS ${CMAKE_CURRENT_LIST_DIR}/exports.map)
    target_link_options(linnet PRIVATE -Wl,--version-script=${LINNET_EXPORTS} -Wl,--gc-sections -Wl,-z,defs
      -Wl,-z,noseparate-code)
    if(LINNET_SANITIZE)
      target_link_options(linnet PRIVATE -Wl,-z,undefs)
    endif()
    set_target_properties(linnet PROPERTIES LINK_DEPENDS ${LINNET_EXPORTS})
  endif()
  install(TARGETS linnet EXPORT linnet-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library)
  install(FILES cpp/include/linnet/linnet.h cpp/include/linnet/linnet.hpp
    DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/linnet COMPONENT library)
  set(LINNET_PACKAGE_FOLDER ${CMAKE_INSTALL_LIBDIR}/cmake/linnet)
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/linnet-config-version.cmake COMPATIBILITY SameMinorVersion)
  configure_file(${CMAKE_CURRENT_LIST_DIR}/linnet-config.cmake ${PROJECT_BINARY_DIR}/linnet-config.cmake COPYONLY)
  install(EXPORT linnet-targets NAMESPACE linnet:: DESTINATION ${LINNET_PACKAGE_FOLDER} COMPONENT library)
  install(FILES ${PROJECT_BINARY_DIR}/linnet-config.cmake ${PROJECT_BINARY_DIR}/linnet-config-version.cmake
    DESTINATION ${LINNET_PACKAGE_FOLDER} COMPONENT library)
endif()

if(LINNET_TOOLS)
  file(GLOB LINNET_TOOL_FILES CONFIGURE_DEPENDS cpp/tools/*.cpp)
  list(FILTER LINNET_TOOL_FILES EXCLUDE REGEX "/fuzz_")
  add_executable(linnet-run ${LINNET_TOOL_FILES})
  target_compile_definitions(linnet-run PRIVATE LINNET_VERSION="${PROJECT_VERSION}")
  target_link_libraries(linnet-run PRIVATE linnet_objects linnet_kernels)
  install(TARGETS linnet-run RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT library)
endif()

if(LINNET_FUZZ)
  target_compile_options(linnet_objects PRIVATE -fsanitize=fuzzer-no-link)
  target_compile_options(linnet_serve PRIVATE -fsanitize=fuzzer-no-link)
  add_executable(fuzz_onnx cpp/tools/fuzz_onnx.cpp)
  foreach(wire oip tensorflow rest_v2 rest_v1)
    add_executable(fuzz_${wire} cpp/tools/fuzz_serve.cpp)
    target_compile_definitions(fuzz_${wire} PRIVATE LINNET_FUZZ_WIRE=${wire})
    target_link_libraries(fuzz_${wire} PRIVATE linnet_serve)
  endforeach()
  foreach(target fuzz_onnx fuzz_oip fuzz_tensorflow fuzz_rest_v2 fuzz_rest_v1)
    target_link_libraries(${target} PRIVATE linnet_objects linnet_kernels)
    target_link_options(${target} PRIVATE -fsanitize=fuzzer)
  endforeach()
endif()
