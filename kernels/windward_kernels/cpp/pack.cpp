// From the row-major encodings of model files to panels (layout.h).
#include <string.h>

#include "layout.h"

namespace {

// GGUF block types: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, ggml-common.h's structs.
enum Block { BLOCK_Q4_0 = 2, BLOCK_Q4_1 = 3, BLOCK_Q8_0 = 8 };

int block_bytes(int block) { return block == BLOCK_Q4_0 ? 18 : block == BLOCK_Q4_1 ? 20 : 34; }

// -8 d as float16 bits: three exponents up, sign turned. Where that leaves the normal range, the float of it is wrong,
// so such blocks are refused by returning false.
bool minus_eight(uint16_t d, uint16_t *out) {
    const int exponent = d >> 10 & 31;
    if ((d & 0x7fff) == 0) {
        *out = 0;
        return true;
    }
    if (exponent == 0 || exponent + 3 > 30) return false;
    *out = (uint16_t)((d ^ 0x8000) + (3 << 10));
    return true;
}

bool put_q4(const uint8_t *from, int block, uint8_t *group, int r) {
    uint16_t d, low;
    memcpy(&d, from, 2);
    if (block == BLOCK_Q4_1) {
        memcpy(&low, from + 2, 2);
        from += 4;
    } else {
        if (!minus_eight(d, &low)) return false;
        from += 2;
    }
    memcpy(group + 256 + r * 2, &d, 2);
    memcpy(group + 288 + r * 2, &low, 2);
    const int shift = r < 8 ? 0 : 4;
    for (int k = 0; k < 32; k++) {
        const int nibble = k < 16 ? from[k] & 15 : from[k - 16] >> 4;
        group[k / 4 * 32 + r % 8 * 4 + k % 4] |= (uint8_t)(nibble << shift);
    }
    return true;
}

void put_q8(const uint8_t *from, uint8_t *group, int r) {
    memcpy(group + 512 + r * 2, from, 2);
    for (int j = 0; j < 8; j++) memcpy(group + j * 64 + r * 4, from + 2 + j * 4, 4);
}

template <class T>
void put_values(const uint8_t *from, int cols, uint8_t *panel, int r) {
    for (int k = 0; k < cols; k++) memcpy(panel + ((int64_t)k * WW_PANEL + r) * sizeof(T), from + k * sizeof(T), sizeof(T));
}

}  // namespace

WW_EXPORT int64_t ww_packed_bytes(int kind, int rows, int cols) { return ww_panels(rows) * ww_panel_bytes(kind, cols); }

// `order` (rows): which source row becomes row r, or null. `into` must be zero. Returns 0, or -1 where a Q4_0 scale is
// out of the range in which Q4_1 can say the same.
WW_EXPORT int ww_pack(int kind, int block, int rows, int cols, const uint8_t *from, const int32_t *order, uint8_t *into) {
    const int64_t bytes = ww_panel_bytes(kind, cols);
    for (int row = 0; row < rows; row++) {
        const int64_t source = order ? order[row] : row;
        uint8_t *panel = into + row / WW_PANEL * bytes;
        const int r = row % WW_PANEL;
        if (kind == WW_F32) {
            put_values<uint32_t>(from + source * cols * 4, cols, panel, r);
        } else if (kind == WW_F16 || kind == WW_BF16) {
            put_values<uint16_t>(from + source * cols * 2, cols, panel, r);
        } else {
            const int size = block_bytes(block), groups = cols / WW_GROUP;
            for (int g = 0; g < groups; g++) {
                const uint8_t *values = from + (source * groups + g) * size;
                if (kind == WW_Q8)
                    put_q8(values, panel + g * WW_Q8_BYTES, r);
                else if (!put_q4(values, block, panel + g * WW_Q4_BYTES, r))
                    return -1;
            }
        }
    }
    return 0;
}
