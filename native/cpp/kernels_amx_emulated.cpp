#include "amx.h"
#include "amx_attention.h"
#include "instantiate.h"
#include "lanes_scalar.h"
#include "tiles_emulated.h"

namespace portabert {
const Kernels kAmxEmulatedKernels = instantiate<Scalar>("amx-emulated", 2 * kTileRows, multiply_amx<Scalar, EmulatedTiles>, attend_amx<Scalar, EmulatedTiles>);
}
