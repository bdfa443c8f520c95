// Holds the place of a kernel family that has no file.
