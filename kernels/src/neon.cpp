// The kernels for any 64-bit ARM. As in avx2.cpp, nothing here may leave code behind that other files share.
#ifdef LEANTO_NEON
#include "instantiate.h"
#include "lanes_neon.h"

namespace leanto {

const Kernels& neon_kernels() {
    static constexpr Kernels set = make_kernels<Neon>("neon");
    return set;
}

}  // namespace leanto
#endif
