#pragma once

#include <string>

// What the host API says of a product with `columns` output columns and no operands: empty if it is
// right, otherwise what is wrong.
std::string smoke_check(int columns);
