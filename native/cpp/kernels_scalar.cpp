#include "instantiate.h"
#include "lanes_scalar.h"

namespace portabert {
const Kernels kScalarKernels = instantiate<Scalar>();
}
