"""The provider PyInfo."""

load("//private:rules.bzl", "NativePyInfo")

PyInfo = NativePyInfo
