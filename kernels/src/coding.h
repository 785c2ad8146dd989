// The three codings of a matrix by name, and what a window of its bits stands for. Knows nothing of rows, columns or instruction sets.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "table.h"

namespace leanto {

Coding coding_of(const std::string& name);  // throws std::invalid_argument for a name that is none
int window_bits(Coding coding, int bits);

// The integer of each window, (1 << window_bits,).
std::vector<int8_t> window_values(Coding coding, int bits, const int8_t* tables);

// Throws std::invalid_argument unless every sum of two entries lies in -127..127, and B is zero for scalar. `name` is that of the tables.
void check_tables(const int8_t* tables, Coding coding, const std::string& name);

}  // namespace leanto
