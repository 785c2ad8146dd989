// The kernels for any machine.
#include "instantiate.h"
#include "lanes_portable.h"

namespace leanto {

const Kernels& portable_kernels() {
    static constexpr Kernels set = make_kernels<Portable>("scalar");
    return set;
}

}  // namespace leanto
