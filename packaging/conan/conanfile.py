# SPDX-License-Identifier: BSD-3-Clause
"""Conan 2: `conan create packaging/conan --build=missing` packs the checkout it lies in."""
import os
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.files import copy, load

required_conan_version = ">=2.0"


class ScaledotConan(ConanFile):
    name = "scaledot"
    description = "The numerics of attention for C++20, on xtensor"
    license = "BSD-3-Clause"
    topics = ("attention", "softmax", "layer-normalization", "simd", "xtensor")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"checkpoints": [True, False]}
    default_options = {"checkpoints": True}
    no_copy_source = True

    @property
    def _checkout(self):
        return os.path.join(self.recipe_folder, "..", "..")

    def set_version(self):
        header = load(self, os.path.join(self._checkout, "include", "scaledot", "version.hpp"))
        found = dict(re.findall(r"^#define SCALEDOT_VERSION_(MAJOR|MINOR|PATCH) (\d+)$", header, re.MULTILINE))
        self.version = ".".join(found[part] for part in ("MAJOR", "MINOR", "PATCH"))

    def export_sources(self):
        copy(self, "LICENSE", self._checkout, self.export_sources_folder)
        copy(self, "*.hpp", os.path.join(self._checkout, "include"), os.path.join(self.export_sources_folder, "include"))

    def requirements(self):
        # xtensor brings its own xtl. `force`: it may name other versions of these two, and headers are as one likes.
        self.requires("xtensor/[>=0.24.3 <1]")
        self.requires("xsimd/[>=8.1 <14]", force=True)
        if self.options.checkpoints:
            self.requires("nlohmann_json/[>=3.10 <4]", force=True)

    def validate(self):
        check_min_cppstd(self, 20)

    def package_id(self):
        self.info.clear()

    def package(self):
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        copy(self, "*.hpp", os.path.join(self.source_folder, "include"), os.path.join(self.package_folder, "include"))

    def package_info(self):
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
        self.cpp_info.set_property("cmake_file_name", "scaledot")
        self.cpp_info.set_property("cmake_target_name", "scaledot::scaledot")
        self.cpp_info.set_property("pkg_config_name", "scaledot")
