# SPDX-License-Identifier: BSD-3-Clause
"""Conan 2: `conan create packaging/conan --build=missing` packs the checkout it lies in."""
import os
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain
from conan.tools.files import copy, load, rmdir

required_conan_version = ">=2.0"


class ScaledotConan(ConanFile):
    name = "scaledot"
    description = "The numerics of attention for C++20, on xtensor"
    license = "BSD-3-Clause"
    topics = ("attention", "softmax", "layer-normalization", "simd", "xtensor")
    settings = "os", "arch", "compiler", "build_type"
    options = {
        "checkpoints": [True, False],  # reading of safetensors files
        "dispatch": [True, False],     # also scaledot::dispatch, the kernels compiled for every instruction set
    }
    default_options = {"checkpoints": True, "dispatch": False}
    no_copy_source = True

    @property
    def _checkout(self):
        return os.path.join(self.recipe_folder, "..", "..")

    def set_version(self):
        header = load(self, os.path.join(self._checkout, "include", "scaledot", "version.hpp"))
        found = dict(re.findall(r"^#define SCALEDOT_VERSION_(MAJOR|MINOR|PATCH) (\d+)$", header, re.MULTILINE))
        self.version = ".".join(found[part] for part in ("MAJOR", "MINOR", "PATCH"))

    def export_sources(self):
        for pattern in ("CMakeLists.txt", "LICENSE", "CHANGELOG.md", "README.md"):
            copy(self, pattern, self._checkout, self.export_sources_folder)
        for folder in ("cmake", "include", "src"):
            copy(self, "*", os.path.join(self._checkout, folder), os.path.join(self.export_sources_folder, folder))

    def configure(self):
        self.package_type = "static-library" if self.options.dispatch else "header-library"

    def requirements(self):
        # xtensor brings its own xtl. `force`: it may name other versions of these two, and headers are as one likes.
        self.requires("xtensor/[>=0.24.3 <1]", transitive_headers=True)
        self.requires("xsimd/[>=8.1 <14]", transitive_headers=True, force=True)
        if self.options.checkpoints:
            self.requires("nlohmann_json/[>=3.10 <4]", transitive_headers=True, force=True)

    def validate(self):
        check_min_cppstd(self, 20)

    def package_id(self):
        if not self.info.options.dispatch:
            self.info.clear()

    def generate(self):
        if self.options.dispatch:
            toolchain = CMakeToolchain(self)
            for what in ("TESTS", "BENCHMARKS", "EXAMPLES"):
                toolchain.cache_variables[f"SCALEDOT_BUILD_{what}"] = False
            toolchain.cache_variables["SCALEDOT_INSTALL_DISPATCH"] = True
            toolchain.cache_variables["CMAKE_INSTALL_LIBDIR"] = "lib"
            toolchain.generate()
            CMakeDeps(self).generate()

    def build(self):
        if self.options.dispatch:
            cmake = CMake(self)
            cmake.configure()
            cmake.build()

    def package(self):
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        if self.options.dispatch:
            CMake(self).install()
            # Conan writes its own.
            rmdir(self, os.path.join(self.package_folder, "share"))
            rmdir(self, os.path.join(self.package_folder, "lib", "pkgconfig"))
        else:
            copy(self, "*.hpp", os.path.join(self.source_folder, "include"), os.path.join(self.package_folder, "include"))

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "scaledot")
        self.cpp_info.set_property("cmake_target_name", "scaledot::everything")
        headers = self.cpp_info.components["headers"]
        headers.set_property("cmake_target_name", "scaledot::scaledot")
        headers.set_property("pkg_config_name", "scaledot")
        headers.requires = ["xtensor::xtensor", "xsimd::xsimd"]
        headers.bindirs = headers.libdirs = []
        if self.options.checkpoints:
            headers.requires.append("nlohmann_json::nlohmann_json")
        if self.options.dispatch:
            dispatch = self.cpp_info.components["dispatch"]
            dispatch.set_property("cmake_target_name", "scaledot::dispatch")
            dispatch.set_property("pkg_config_name", "scaledot-dispatch")
            dispatch.requires = ["headers"]
            dispatch.libs = ["scaledot_dispatch"]
            dispatch.defines = ["SCALEDOT_DISPATCH"]
            dispatch.bindirs = []
