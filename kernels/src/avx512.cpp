// The kernels for AVX-512 with VBMI and VNNI. As in avx2.cpp, nothing here may leave code behind that other files share.
#ifdef LEANTO_AVX512
#include "instantiate.h"
#include "lanes_avx512.h"

namespace leanto {

const Kernels& avx512_kernels() {
    static constexpr Kernels set = make_kernels<Avx512>("avx512");
    return set;
}

}  // namespace leanto
#endif
