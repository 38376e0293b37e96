# What `cmake --install` lays down: headers, libraries, the tool, a config package with the components core, c and cuda, and .pc files.
# Everything is found relative to the file that asks, so that an installed tree can be moved.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/outrigger)

install(TARGETS outrigger EXPORT outrigger-core COMPONENT core FILE_SET HEADERS COMPONENT core)
install(EXPORT outrigger-core NAMESPACE outrigger:: FILE outrigger-core.cmake DESTINATION ${package_dir} COMPONENT core)
if(TARGET outrigger_c)
  install(TARGETS outrigger_c EXPORT outrigger-c COMPONENT c FILE_SET HEADERS COMPONENT c)
  install(EXPORT outrigger-c NAMESPACE outrigger:: FILE outrigger-c.cmake DESTINATION ${package_dir} COMPONENT c)
endif()
if(TARGET outrigger_cuda)
  # Nobody links with it: the libraries load it from beside themselves. The target tells where it is.
  install(TARGETS outrigger_cuda EXPORT outrigger-cuda LIBRARY COMPONENT cuda)
  install(EXPORT outrigger-cuda NAMESPACE outrigger:: FILE outrigger-cuda.cmake DESTINATION ${package_dir} COMPONENT cuda)
endif()
if(TARGET outrigger_tool)
  # The tool finds a shared C++ library beside itself, wherever the tree is.
  file(RELATIVE_PATH to_libraries ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
  set_property(TARGET outrigger_tool PROPERTY INSTALL_RPATH $ORIGIN/${to_libraries})
  install(TARGETS outrigger_tool COMPONENT tool)
endif()

configure_package_config_file(cmake/outriggerConfig.cmake.in ${PROJECT_BINARY_DIR}/package/outriggerConfig.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/package/outriggerConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/package/outriggerConfig.cmake ${PROJECT_BINARY_DIR}/package/outriggerConfigVersion.cmake
  DESTINATION ${package_dir} COMPONENT core)

# Where nothing but the archive is installed, its own needs are its user's too.
set(cxx_needs "tbb, libutf8proc")
if(liburing_FOUND)
  string(APPEND cxx_needs ", liburing")
endif()
if(BUILD_SHARED_LIBS)
  set(cxx_requires "Requires.private: ${cxx_needs}\nLibs.private: -pthread -ldl")
else()
  set(cxx_requires "Requires: ${cxx_needs}\nLibs.private: -lstdc++ -lm -pthread -ldl")
endif()
file(RELATIVE_PATH pc_to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" pc_to_prefix "${pc_to_prefix}")
foreach(pc outrigger outrigger-c)
  configure_file(cmake/${pc}.pc.in ${PROJECT_BINARY_DIR}/package/${pc}.pc @ONLY)
endforeach()
install(FILES ${PROJECT_BINARY_DIR}/package/outrigger.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT core)
install(FILES ${PROJECT_BINARY_DIR}/package/outrigger-c.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT c)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT core)
