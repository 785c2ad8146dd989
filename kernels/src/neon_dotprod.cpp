// The kernels for 64-bit ARM with the dot product of bytes. As in avx2.cpp, nothing here may leave code behind that other files share.
#ifdef LEANTO_NEON
#include "instantiate.h"
#include "lanes_neon.h"

namespace leanto {

const Kernels& neon_dotprod_kernels() {
    static constexpr Kernels set = make_kernels<NeonDotprod>("neon_dotprod");
    return set;
}

}  // namespace leanto
#endif
