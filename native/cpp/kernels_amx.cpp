#include "amx.h"
#include "amx_attention.h"
#include "instantiate.h"
#include "lanes_avx512.h"
#include "tiles_amx.h"

namespace portabert {
const Kernels kAmxKernels = instantiate<Avx512Bf16>("amx", 2 * kTileRows, multiply_amx<Avx512Bf16, AmxTiles>, attend_amx<Avx512Bf16, AmxTiles>);
}
