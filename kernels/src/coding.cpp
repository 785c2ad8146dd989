// Windows one by one, as docs/format.md defines them.
#include "coding.h"

#include <cstdlib>
#include <stdexcept>

namespace leanto {

Coding coding_of(const std::string& name) {
    if (name == "trellis") return Coding::trellis;
    if (name == "additive") return Coding::additive;
    if (name == "scalar") return Coding::scalar;
    throw std::invalid_argument("unknown kind '" + name + "' of codes: choose trellis, additive or scalar");
}

int window_bits(Coding coding, int bits) {
    switch (coding) {
        case Coding::trellis: return kTrellisWindow;
        case Coding::additive: return kAdditiveWindow;
        default: return bits;
    }
}

std::vector<int8_t> window_values(Coding coding, int bits, const int8_t* tables) {
    const int8_t *a = tables, *b = tables + 16;
    std::vector<int8_t> values(size_t{1} << window_bits(coding, bits));
    for (size_t w = 0; w < values.size(); ++w) {
        const size_t w0 = w & 15, w4 = w >> 4 & 15, w8 = w >> 8;
        switch (coding) {
            case Coding::trellis: values[w] = static_cast<int8_t>(a[w0 ^ w8] + b[w4 ^ (w8 << 1 & 15)]); break;
            case Coding::additive: values[w] = static_cast<int8_t>(a[w0] + b[w4]); break;
            default: values[w] = a[w];
        }
    }
    return values;
}

void check_tables(const int8_t* tables, Coding coding, const std::string& name) {
    for (int i = 0; i < 16; ++i) {
        if (coding == Coding::scalar && tables[16 + i] != 0)
            throw std::invalid_argument(name + ": the second row must be zero for scalar codes");
        for (int j = 0; j < 16; ++j)
            if (std::abs(tables[i] + tables[16 + j]) > 127)
                throw std::invalid_argument(name + ": the sum of two entries lies beyond 127");
    }
}

}  // namespace leanto
