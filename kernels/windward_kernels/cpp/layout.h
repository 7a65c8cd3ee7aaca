// Packed weights. A panel is 16 output rows (the last one padded with zeros), stored so that one vector load brings the
// same column, or the same four columns, of all 16.
//
//   float   per column: 16 values.
//   Q4      per group of 32 columns: 8 x 32 bytes, each the four columns 4j..4j+3 of 16 rows (low nibbles rows 0-7, high
//           nibbles rows 8-15), then 16 float16 scales d and 16 float16 minima m: w = d q + m, q in 0..15.
//   Q8      per group of 32 columns: 8 x 64 bytes, each four columns of 16 rows, then 16 float16 scales: w = d q.
#pragma once
#include "abi.h"

enum { WW_PANEL = 16, WW_GROUP = 32, WW_Q4_BYTES = 320, WW_Q8_BYTES = 544 };

static inline int ww_panels(int rows) { return (rows + WW_PANEL - 1) / WW_PANEL; }

static inline int64_t ww_panel_bytes(int kind, int cols) {
    switch (kind) {
        case WW_F32: return (int64_t)cols * WW_PANEL * 4;
        case WW_Q4: return (int64_t)(cols / WW_GROUP) * WW_Q4_BYTES;
        case WW_Q8: return (int64_t)(cols / WW_GROUP) * WW_Q8_BYTES;
        default: return (int64_t)cols * WW_PANEL * 2;
    }
}

// Halves of scales and minima that a page of int4 has on one side.
static inline int64_t ww_kv_halves(int head_dim) { return (head_dim + WW_KV_GROUP - 1) / WW_KV_GROUP * 2 * WW_PAGE; }
