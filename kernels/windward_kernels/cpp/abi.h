// What crosses the C boundary: plain structs that ctypes mirrors (library.py), no torch and no C++ types.
//
// Names: T tokens of a step, C hidden size, F intermediate size, V vocabulary, H heads, D head size. All matrices are
// row-major float32 unless said otherwise. Weights are packed in panels of 16 output rows (see layout.h).
#pragma once
#include <stdint.h>

#define WW_EXPORT extern "C" __attribute__((visibility("default")))

enum WwKind : int32_t { WW_F32 = 0, WW_F16 = 1, WW_BF16 = 2, WW_Q4 = 3, WW_Q8 = 4 };
enum WwCache : int32_t { WW_KV_F32 = 0, WW_KV_F16 = 1, WW_KV_I8 = 2, WW_KV_I4 = 3 };

struct WwWeight {  // (rows, cols), packed
    int32_t kind, rows, cols, reserved;
    const uint8_t *data;
    const float *bias;  // (rows) or null
};

struct WwLinear {  // up to three weights on the same input; their outputs stand side by side
    int32_t parts, rows;  // rows: of all parts together
    WwWeight part[3];
};

struct WwLayer {
    const float *attention_norm, *ffn_norm;  // (C)
    const float *q_norm, *k_norm;            // (D) or null
    WwLinear qkv, output, gate_up, down;
};

struct WwModel {
    int32_t num_hidden_layers, hidden_size, num_attention_heads, num_key_value_heads, head_dim;
    int32_t intermediate_size, vocab_size;
    int32_t sliding_window;  // a query sees this many keys, itself included; 0: all
    float eps;
    int32_t max_position_embeddings;  // rows of cos and sin
    const float *cos, *sin;           // (max_position_embeddings, D/2)
    const WwLayer *layer;
    const float *final_norm;
    WwWeight embedding;
    WwLinear head;
};

// The pool of pages. A page holds WW_PAGE tokens of one key-value head of one layer: keys as (D, WW_PAGE), so that a
// query meets 16 keys at once, values as (WW_PAGE, D). int8 has a float16 scale for each token, head and side.
// int4 keeps 16 neighbours in 8 bytes (low nibbles: the first 8), and for each token, head, side and group of WW_KV_GROUP
// columns a float16 scale d and minimum m, x = d q + m: (groups, 2, WW_PAGE) a page.
enum { WW_PAGE = 16, WW_KV_GROUP = 32 };
struct WwKv {
    int32_t kind, blocks;
    uint8_t *keys, *values;              // (layers, blocks, Hkv, D * WW_PAGE) elements
    uint16_t *key_scales, *value_scales;  // int8: (layers, blocks, Hkv, WW_PAGE); int4: see above
};

struct WwStep {  // one mixed batch: tokens of several sequences, each sequence's own in order and side by side
    int32_t tokens, sequences, outputs, table_width;
    const int32_t *token, *position;  // (T)
    const int32_t *first;             // (S + 1): where each sequence's tokens begin in the batch
    const int32_t *table;             // (S, table_width): physical block of each logical block
    const int32_t *output;            // (outputs): which of the T places want logits
    float *logits;                    // (outputs, V) or null
    float *hidden_states;             // (outputs, C), after the last norm, or null
};
