"""The provider PyInfo."""

# buildifier: disable=unused-variable
_PyInfo = PyInfo

PyInfo = _PyInfo
