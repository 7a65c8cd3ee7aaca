// Matrix products on packed weights: out (rows, ldo) = x W^T. Included inside body.h.
//
// Every tile adds a row's terms in the same order, whatever the number of rows beside it.

template <int MR, class L>
static inline void float_tile(const uint8_t *w, int64_t stride, int cols, const float *x, int ld, vf (&acc)[MR][NV]) {
    for (int k = 0; k < cols; k++, w += stride) {
        vf column[NV];
#pragma GCC unroll 8
        for (int v = 0; v < NV; v++) column[v] = L::at(w + v * W * L::BYTES);
#pragma GCC unroll 16
        for (int m = 0; m < MR; m++)
#pragma GCC unroll 8
            for (int v = 0; v < NV; v++) acc[m][v] += column[v] * x[(int64_t)m * ld + k];
    }
}

// Assigned one by one: for `= {}` GCC calls the string instruction, which costs a twentieth of a product.
template <int MR>
static inline void clear(vf (&acc)[MR][NV]) {
#pragma GCC unroll 16
    for (int m = 0; m < MR; m++)
#pragma GCC unroll 8
        for (int v = 0; v < NV; v++) acc[m][v] = vf{};
}

struct Target {  // where a tile of 16 columns goes: `columns` of them are real
    float *out;
    const float *residual, *bias;
    int ld, columns;
};

template <int MR>
static inline void write_tile(const vf (&acc)[MR][NV], const Target &to) {
    for (int m = 0; m < MR; m++) {
        float *out = to.out + (int64_t)m * to.ld;
        const float *residual = to.residual ? to.residual + (int64_t)m * to.ld : nullptr;
        if (to.columns == WW_PANEL) {
            for (int v = 0; v < NV; v++) {
                vf sum = acc[m][v];
                if (to.bias) sum += load(to.bias + v * W);
                if (residual) sum += load(residual + v * W);
                store(out + v * W, sum);
            }
            continue;
        }
        for (int i = 0; i < to.columns; i++) {
            float sum = acc[m][i / W][i % W];
            if (to.bias) sum += to.bias[i];
            if (residual) sum += residual[i];
            out[i] = sum;
        }
    }
}

template <class L>
struct FloatProduct {
    enum { ROWS = FLOAT_ROWS };
    template <int MR>
    static void tile(const uint8_t *w, const Activations &a, int64_t row, const Target &to) {
        vf acc[MR][NV];
        clear<MR>(acc);
        float_tile<MR, L>(w, WW_PANEL * L::BYTES, a.ld, a.x + row * a.ld, a.ld, acc);
        write_tile<MR>(acc, to);
    }
};

struct Q4Product {
    enum { ROWS = INT_ROWS };
    template <int MR>
    static void tile(const uint8_t *w, const Activations &a, int64_t row, const Target &to) {
        const int groups = a.ld / WW_GROUP;
        const int8_t *q = a.q + row * a.ld;
        const float *scale = a.scale + row * groups, *sum = a.sum + row * groups;
        vf acc[MR][NV];
        clear<MR>(acc);
        for (int g = 0; g < groups; g++, w += WW_Q4_BYTES) {
            vi dots[MR][NV];
            dot_q4<MR>(w, q + g * WW_GROUP, a.ld, dots);
            vf d[NV], low[NV];
            for (int v = 0; v < NV; v++) {
                d[v] = halves(w + 256 + v * W * 2);
                low[v] = halves(w + 288 + v * W * 2);
            }
#pragma GCC unroll 16
            for (int m = 0; m < MR; m++) {
                vf by = splat(scale[m * groups + g]), shift = splat(sum[m * groups + g]);
#pragma GCC unroll 8
                for (int v = 0; v < NV; v++) {
                    acc[m][v] += __builtin_convertvector(dots[m][v], vf) * (d[v] * by);
                    acc[m][v] += low[v] * shift;
                }
            }
        }
        write_tile<MR>(acc, to);
    }
};

struct Q8Product {
    enum { ROWS = INT_ROWS };
    template <int MR>
    static void tile(const uint8_t *w, const Activations &a, int64_t row, const Target &to) {
        const int groups = a.ld / WW_GROUP;
        const int8_t *q = a.q + row * a.ld;
        const float *scale = a.scale + row * groups;
        vf acc[MR][NV];
        clear<MR>(acc);
        for (int g = 0; g < groups; g++, w += WW_Q8_BYTES) {
            vi dots[MR][NV];
            dot_q8<MR>(w, q + g * WW_GROUP, a.ld, dots);
            vf d[NV];
            for (int v = 0; v < NV; v++) d[v] = halves(w + 512 + v * W * 2);
#pragma GCC unroll 16
            for (int m = 0; m < MR; m++) {
                vf by = splat(scale[m * groups + g]);
#pragma GCC unroll 8
                for (int v = 0; v < NV; v++) acc[m][v] += __builtin_convertvector(dots[m][v], vf) * (d[v] * by);
            }
        }
        write_tile<MR>(acc, to);
    }
};

template <class P, int MR>
static inline void remainder(const uint8_t *w, const Activations &a, int64_t row, int rows, const Target &to) {
    if constexpr (MR > 0) {
        if (rows == MR)
            P::template tile<MR>(w, a, row, to);
        else
            remainder<P, MR - 1>(w, a, row, rows, to);
    }
}

template <class P>
static void product(const WwWeight *w, const Activations *a, int panel, int panel_end, int row, int row_end, float *out,
                    int ldo, const float *residual) {
    const int64_t bytes = ww_panel_bytes(w->kind, w->cols);
    for (; panel < panel_end; panel++) {
        const int column = panel * WW_PANEL, left = w->rows - column;
        for (int m = row; m < row_end; m += P::ROWS) {
            const int64_t at = (int64_t)m * ldo + column;
            Target to{out + at, residual ? residual + at : nullptr, w->bias ? w->bias + column : nullptr, ldo,
                      left < WW_PANEL ? left : WW_PANEL};
            const int rows = row_end - m;
            if (rows >= P::ROWS)
                P::template tile<P::ROWS>(w->data + panel * bytes, *a, m, to);
            else
                remainder<P, P::ROWS - 1>(w->data + panel * bytes, *a, m, rows, to);
        }
    }
}

static void panels(const WwWeight *w, const Activations *a, int panel, int panel_end, int row, int row_end, float *out,
                   int ldo, const float *residual) {
    switch (w->kind) {
        case WW_F32: return product<FloatProduct<LoadF32>>(w, a, panel, panel_end, row, row_end, out, ldo, residual);
        case WW_F16: return product<FloatProduct<LoadF16>>(w, a, panel, panel_end, row, row_end, out, ldo, residual);
        case WW_BF16: return product<FloatProduct<LoadBF16>>(w, a, panel, panel_end, row, row_end, out, ldo, residual);
        case WW_Q4: return product<Q4Product>(w, a, panel, panel_end, row, row_end, out, ldo, residual);
        case WW_Q8: return product<Q8Product>(w, a, panel, panel_end, row, row_end, out, ldo, residual);
    }
}

// One row of a packed weight, dequantised: the embedding of a token.
static void row_of(const WwWeight *w, int row, float *out) {
    const uint8_t *panel = w->data + row / WW_PANEL * ww_panel_bytes(w->kind, w->cols);
    const int r = row % WW_PANEL;
    auto half_at = [](const uint8_t *p) {
        uint16_t h;
        __builtin_memcpy(&h, p, 2);
        return half_to_float(h);
    };
    for (int k = 0; k < w->cols; k++) {
        const int g = k / WW_GROUP, j = k % WW_GROUP / 4, i = k % 4;
        if (w->kind == WW_F32) {
            __builtin_memcpy(out + k, panel + ((int64_t)k * WW_PANEL + r) * 4, 4);
        } else if (w->kind == WW_Q8) {
            const uint8_t *group = panel + (int64_t)g * WW_Q8_BYTES;
            out[k] = half_at(group + 512 + r * 2) * (float)(int8_t)group[j * 64 + r * 4 + i];
        } else if (w->kind == WW_Q4) {
            const uint8_t *group = panel + (int64_t)g * WW_Q4_BYTES;
            const uint8_t pair = group[j * 32 + r % 8 * 4 + i];
            out[k] = half_at(group + 256 + r * 2) * (float)(r < 8 ? pair & 15 : pair >> 4) + half_at(group + 288 + r * 2);
        } else {
            uint16_t bits;
            __builtin_memcpy(&bits, panel + ((int64_t)k * WW_PANEL + r) * 2, 2);
            if (w->kind == WW_F16) {
                out[k] = half_to_float(bits);
            } else {
                const uint32_t wide = (uint32_t)bits << 16;
                __builtin_memcpy(out + k, &wide, 4);
            }
        }
    }
}
