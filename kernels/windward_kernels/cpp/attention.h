// Attention over pages with an online softmax (Milakov and Gimelshein 2018, arXiv 1805.02867; Dao et al. 2022,
// arXiv 2205.14135, algorithm 1). Included inside body.h.

static inline int64_t page_of(const WwKv *kv, int64_t layer, int block, int head, int kv_heads) {
    return (layer * kv->blocks + block) * kv_heads + head;
}

// Sixteen neighbours of a page of int4.
static inline void sixteen(const uint8_t *from, float *into) {
    for (int i = 0; i < 8; i++) {
        into[i] = (float)(from[i] & 15);
        into[i + 8] = (float)(from[i] >> 4);
    }
}

static inline const float *int4_page(const uint8_t *from, const uint16_t *halved, int head_dim, bool keys, float *into) {
    alignas(64) float one[WW_PAGE], d[WW_PAGE], low[WW_PAGE];
    for (int begin = 0; begin < head_dim; begin += WW_KV_GROUP, halved += 2 * WW_PAGE) {
        const int end = begin + WW_KV_GROUP < head_dim ? begin + WW_KV_GROUP : head_dim;
        for (int t = 0; t < WW_PAGE; t += W) {
            store(d + t, halves((const uint8_t *)(halved + t)));
            store(low + t, halves((const uint8_t *)(halved + WW_PAGE + t)));
        }
        for (int i = begin; keys && i < end; i++) {
            sixteen(from + i * 8, one);
            for (int t = 0; t < WW_PAGE; t++) into[i * WW_PAGE + t] = one[t] * d[t] + low[t];
        }
        for (int t = 0; !keys && t < WW_PAGE; t++)
            for (int i = begin; i < end; i += 16) {
                sixteen(from + (t * head_dim + i) / 2, one);
                for (int j = 0; j < 16; j++) into[t * head_dim + i + j] = one[j] * d[t] + low[t];
            }
    }
    return into;
}

// The keys (D, 16) or values (16, D) of a page as float32: in place, or unpacked into `into`.
static inline const float *page_floats(const WwKv *kv, const uint8_t *base, const uint16_t *scales, int64_t page,
                                       int head_dim, bool keys, float *into) {
    const int count = head_dim * WW_PAGE;
    if (kv->kind == WW_KV_F32) return (const float *)base + page * count;
    if (kv->kind == WW_KV_F16) {
        const uint8_t *from = base + page * count * 2;
        for (int i = 0; i < count; i += W) store(into + i, halves(from + i * 2));
        return into;
    }
    if (kv->kind == WW_KV_I4)
        return int4_page(base + page * count / 2, scales + page * ww_kv_halves(head_dim), head_dim, keys, into);
    const int8_t *from = (const int8_t *)base + page * count;
    alignas(64) float scale[WW_PAGE];
    for (int i = 0; i < WW_PAGE; i += W) store(scale + i, halves((const uint8_t *)(scales + page * WW_PAGE + i)));
    if (keys) {
        for (int i = 0; i < count; i += W) store(into + i, bytes_to_float(from + i) * load(scale + i % WW_PAGE));
        return into;
    }
    for (int t = 0; t < WW_PAGE; t++)
        for (int i = 0; i < head_dim; i += W)
            store(into + t * head_dim + i, bytes_to_float(from + t * head_dim + i) * splat(scale[t]));
    return into;
}

template <int MR, class L>
static void score_rows(const uint8_t *const *keys, int pages, const float *q, int head_dim, float *scores) {
    for (int p = 0; p < pages; p++) {
        vf acc[MR][NV];
        clear<MR>(acc);
        float_tile<MR, L>(keys[p], WW_PAGE * L::BYTES, head_dim, q, head_dim, acc);
        for (int m = 0; m < MR; m++)
            for (int v = 0; v < NV; v++) store(scores + m * CHUNK + p * WW_PAGE + v * W, acc[m][v]);
    }
}

template <int MR, class L>
static void value_rows(const uint8_t *const *values, int pages, const float *weight, int head_dim, float *sum) {
    for (int column = 0; column < head_dim; column += WW_PANEL) {
        vf acc[MR][NV];
        for (int m = 0; m < MR; m++)
            for (int v = 0; v < NV; v++) acc[m][v] = load(sum + m * head_dim + column + v * W);
        for (int p = 0; p < pages; p++)
            float_tile<MR, L>(values[p] + column * L::BYTES, head_dim * L::BYTES, WW_PAGE, weight + p * WW_PAGE, CHUNK,
                              acc);
        for (int m = 0; m < MR; m++)
            for (int v = 0; v < NV; v++) store(sum + m * head_dim + column + v * W, acc[m][v]);
    }
}

template <int MR, class L>
static void both_rows(bool scores, int rows, const uint8_t *const *pages, int count, const float *left, int head_dim,
                      float *out) {
    if constexpr (MR > 0) {
        if (rows != MR) return both_rows<MR - 1, L>(scores, rows, pages, count, left, head_dim, out);
        if (scores)
            score_rows<MR, L>(pages, count, left, head_dim, out);
        else
            value_rows<MR, L>(pages, count, left, head_dim, out);
    }
}

// Turn a row's scores of one chunk into weights; keys outside [low, high) weigh nothing. Rescales what was summed.
static void soften(float *scores, int width, int low, int high, float *peak, float *weight, float *sum, int head_dim) {
    const float never = -1e30f;
    for (int i = 0; i < low && i < width; i++) scores[i] = never;
    for (int i = high < 0 ? 0 : high; i < width; i++) scores[i] = never;
    vf best = splat(never);
    for (int i = 0; i < width; i += W) best = max(best, load(scores + i));
    float highest = top(best);
    if (highest <= never) {
        for (int i = 0; i < width; i++) scores[i] = 0;
        return;
    }
    if (highest > *peak) {
        const vf shrink = exponential(splat(*peak - highest));
        for (int i = 0; i < head_dim; i += W) store(sum + i, load(sum + i) * shrink);
        *weight *= shrink[0];
        *peak = highest;
    }
    vf added = {};
    for (int i = 0; i < width; i += W) {
        vf score = load(scores + i);
        vf share = score > splat(never) ? exponential(score - splat(*peak)) : vf{};
        store(scores + i, share);
        added += share;
    }
    *weight += total(added);
}

static void attend(const AttentionUnit *u) {
    const int D = u->head_dim, queries = u->end - u->begin, rows = queries * u->group;
    float *q = u->scratch, *sum = q + UNIT_ROWS * D, *scores = sum + UNIT_ROWS * D;
    float *peak = scores + UNIT_ROWS * CHUNK, *weight = peak + UNIT_ROWS, *unpacked = weight + UNIT_ROWS;
    for (int r = 0; r < rows; r++) {
        const float *from =
            u->q + (int64_t)(u->begin + r / u->group) * u->ldq + (u->kv_head * u->group + r % u->group) * D;
        for (int i = 0; i < D; i++) q[r * D + i] = from[i] * u->scale;
        for (int i = 0; i < D; i++) sum[r * D + i] = 0;
        peak[r] = -1e30f;
        weight[r] = 0;
    }
    // Float16 pages that one tile of rows reads are converted on the way; for more rows, once and to memory.
    const bool halved = u->kv->kind == WW_KV_F16 && rows <= FLOAT_ROWS;
    const auto rows_of = halved ? both_rows<FLOAT_ROWS, LoadF16> : both_rows<FLOAT_ROWS, LoadF32>;
    const int last = u->position[u->end - 1], oldest = u->position[u->begin];
    const int first = u->window && oldest >= u->window ? oldest - u->window + 1 : 0;
    for (int chunk = first / CHUNK * CHUNK; chunk <= last; chunk += CHUNK) {
        const int from = (first > chunk ? first : chunk) / WW_PAGE;
        const int stop = last + 1 < chunk + CHUNK ? last + 1 : chunk + CHUNK;
        const int pages = (stop + WW_PAGE - 1) / WW_PAGE - from, base = from * WW_PAGE;
        const uint8_t *keys[CHUNK / WW_PAGE], *values[CHUNK / WW_PAGE];
        for (int p = 0; p < pages; p++) {
            const int64_t page = page_of(u->kv, u->layer, u->table[from + p], u->kv_head, u->kv_heads);
            if (halved) {
                keys[p] = u->kv->keys + 2 * page * D * WW_PAGE;
                values[p] = u->kv->values + 2 * page * D * WW_PAGE;
                continue;
            }
            float *into = unpacked + 2 * (int64_t)p * D * WW_PAGE, *other = into + D * WW_PAGE;
            keys[p] = (const uint8_t *)page_floats(u->kv, u->kv->keys, u->kv->key_scales, page, D, true, into);
            values[p] = (const uint8_t *)page_floats(u->kv, u->kv->values, u->kv->value_scales, page, D, false, other);
        }
        for (int r = 0; r < rows; r += FLOAT_ROWS) {
            const int some = rows - r < FLOAT_ROWS ? rows - r : FLOAT_ROWS;
            rows_of(true, some, keys, pages, q + r * D, D, scores + r * CHUNK);
            for (int i = r; i < r + some; i++) {
                const int own = u->position[u->begin + i / u->group];
                const int low = u->window && own >= u->window ? own - u->window + 1 : 0;
                soften(scores + i * CHUNK, pages * WW_PAGE, low - base, own + 1 - base, peak + i, weight + i,
                       sum + i * D, D);
            }
            rows_of(false, some, values, pages, scores + r * CHUNK, D, sum + r * D);
        }
    }
    for (int r = 0; r < rows; r++) {
        float *out = u->out + (int64_t)(u->begin + r / u->group) * u->ldo + (u->kv_head * u->group + r % u->group) * D;
        const float share = weight[r] > 0 ? 1.0f / weight[r] : 0.0f;
        for (int i = 0; i < D; i++) out[i] = sum[r * D + i] * share;
    }
}

// One side of one head into a page of int4: between the least and the greatest of each group.
static void append_int4(const float *x, uint8_t *page, uint16_t *halved, int head_dim, int slot, bool keys) {
    for (int begin = 0; begin < head_dim; begin += WW_KV_GROUP, halved += 2 * WW_PAGE) {
        const int end = begin + WW_KV_GROUP < head_dim ? begin + WW_KV_GROUP : head_dim;
        float least = x[begin], most = x[begin];
        for (int i = begin; i < end; i++) {
            least = x[i] < least ? x[i] : least;
            most = x[i] > most ? x[i] : most;
        }
        float fault = 0;  // 0, or NaN where a value is none: then the group's scale is
        for (int i = begin; i < end; i++) fault += x[i] * 0.0f;
        const uint16_t low = float_to_half(least), d = float_to_half((most - half_to_float(low)) / 15.0f + fault);
        halved[slot] = d;
        halved[WW_PAGE + slot] = low;
        const float from = half_to_float(low), by = half_to_float(d) > 0 ? 1.0f / half_to_float(d) : 0.0f;
        for (int i = begin; i < end; i++) {
            const int code = rounded((x[i] - from) * by, 0, 15);
            const int place = keys ? i * WW_PAGE + slot : slot * head_dim + i, shift = place % 16 / 8 * 4;
            uint8_t &both = page[place / 16 * 8 + place % 8];
            both = (uint8_t)((both & ~(15 << shift)) | code << shift);
        }
    }
}

// As float16, `step` places apart.
static void append_halves(const float *x, uint16_t *to, int64_t step, int head_dim) {
    alignas(64) uint16_t some[16];
    for (int i = 0; i < head_dim; i += 16) {
        sixteen_halves(x + i, some);
        for (int j = 0; j < 16; j++) to[(i + j) * step] = some[j];
    }
}

// Store one token's key and value of every head (Hkv * D each) at a slot of a block.
static void append(const WwKv *kv, int64_t layer, int kv_heads, int head_dim, int block, int slot, const float *k,
                   const float *v) {
    for (int h = 0; h < kv_heads; h++) {
        const int64_t page = page_of(kv, layer, block, h, kv_heads), base = page * head_dim * WW_PAGE;
        for (int side = 0; side < 2; side++) {
            const float *x = (side ? v : k) + h * head_dim;
            uint8_t *to = side ? kv->values : kv->keys;
            const int64_t at = base + (side ? slot * head_dim : slot), step = side ? 1 : WW_PAGE;
            if (kv->kind == WW_KV_I4) {
                uint16_t *halved = (side ? kv->value_scales : kv->key_scales) + page * ww_kv_halves(head_dim);
                append_int4(x, to + base / 2, halved, head_dim, slot, !side);
                continue;
            }
            if (kv->kind == WW_KV_F16) {
                append_halves(x, (uint16_t *)to + at, step, head_dim);
                continue;
            }
            float by = 0;
            if (kv->kind == WW_KV_I8) {
                float peak = 0, fault = 0;
                for (int i = 0; i < head_dim; i++) {
                    peak = x[i] > peak ? x[i] : -x[i] > peak ? -x[i] : peak;
                    fault += x[i] * 0.0f;
                }
                const uint16_t scale = float_to_half(peak / 127.0f + fault);
                (side ? kv->value_scales : kv->key_scales)[page * WW_PAGE + slot] = scale;
                const float kept = half_to_float(scale);
                by = kept > 0 ? 1.0f / kept : 0.0f;
            }
            for (int i = 0; i < head_dim; i++) {
                const int64_t place = at + i * step;
                if (kv->kind == WW_KV_F32) {
                    ((float *)to)[place] = x[i];
                } else {
                    ((int8_t *)to)[place] = (int8_t)rounded(x[i] * by, -127, 127);
                }
            }
        }
    }
}
