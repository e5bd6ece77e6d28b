#include "amx.h"
#include "instantiate.h"
#include "lanes_avx512.h"
#include "tiles_amx.h"

namespace portabert {
const Kernels kAmxKernels = instantiate<Avx512Bf16>("amx-int8", multiply_amx<Avx512Bf16, AmxTiles>);
}
