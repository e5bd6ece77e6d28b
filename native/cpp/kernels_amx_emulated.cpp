#include "amx.h"
#include "instantiate.h"
#include "lanes_scalar.h"
#include "tiles_emulated.h"

namespace portabert {
const Kernels kAmxEmulatedKernels = instantiate<Scalar>("amx-emulated", multiply_amx<Scalar, EmulatedTiles>);
}
