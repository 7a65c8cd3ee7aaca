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

struct PackedCodes {
    enum { BYTES = WW_Q4_BYTES, ROWS = INT_ROWS };
    static inline vf scale(const uint8_t *w, int i) { return halves(w + 256 + i * 2); }  // minima: from i = 16
    template <int MR>
    static inline void dot(const uint8_t *w, const int8_t *q, int ld, vi (&dots)[MR][NV]) {
        dot_q4<MR>(w, q, ld, dots);
    }
};

template <class C>
struct Q4Product {
    enum { ROWS = C::ROWS };
    template <int MR>
    static void tile(const uint8_t *w, const Activations &a, int64_t row, const Target &to) {
        const int groups = a.ld / WW_GROUP;
        const int8_t *q = a.q + row * a.ld;
        const float *scale = a.scale + row * groups, *sum = a.sum + row * groups;
        vf acc[MR][NV];
        clear<MR>(acc);
        for (int g = 0; g < groups; g++, w += C::BYTES) {
            vi dots[MR][NV];
            C::template dot<MR>(w, q + g * WW_GROUP, a.ld, dots);
            vf d[NV], low[NV];
            for (int v = 0; v < NV; v++) {
                d[v] = C::scale(w, v * W);
                low[v] = C::scale(w, WW_PANEL + v * W);
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

struct Span {  // rows [row, row_end) of a product, into out (rows, ldo)
    int row, row_end, ldo;
    float *out;
    const float *residual;
};

template <class P>
static inline void panel_rows(const WwWeight *w, const uint8_t *data, const Activations &a, int column, const Span &to) {
    const int left = w->rows - column;
    for (int m = to.row; m < to.row_end; m += P::ROWS) {
        const int64_t at = (int64_t)m * to.ldo + column;
        Target tile{to.out + at, to.residual ? to.residual + at : nullptr, w->bias ? w->bias + column : nullptr, to.ldo,
                    left < WW_PANEL ? left : WW_PANEL};
        const int rows = to.row_end - m;
        if (rows >= P::ROWS)
            P::template tile<P::ROWS>(data, a, m, tile);
        else
            remainder<P, P::ROWS - 1>(data, a, m, rows, tile);
    }
}

template <class P>
static void product(const WwWeight *w, const Activations *a, int panel, int panel_end, int row, int row_end, float *out,
                    int ldo, const float *residual) {
    const int64_t bytes = ww_panel_bytes(w->kind, w->cols);
    for (; panel < panel_end; panel++)
        panel_rows<P>(w, w->data + panel * bytes, *a, panel * WW_PANEL, {row, row_end, ldo, out, residual});
}

#ifdef WIDE_ROWS  // rows of a tile whose codes were unpacked before
struct WideCodes {
    enum { BYTES = 512 + 8 * WW_PANEL, ROWS = WIDE_ROWS };  // a byte each, then scales and minima as floats
    static inline vf scale(const uint8_t *w, int i) { return load_as<vf>(w + 512 + i * 4); }
    template <int MR>
    static inline void dot(const uint8_t *w, const int8_t *q, int ld, vi (&dots)[MR][NV]) {
        dot_wide<MR>(w, q, ld, dots);
    }
};

// No std::vector here: the linker might take its functions, made for this instruction set, for everyone's.
class Scratch {
  public:
    ~Scratch() { free(at_); }
    uint8_t *take(size_t bytes) {  // null where memory is short
        if (bytes > size_) {
            free(at_);
            at_ = (uint8_t *)aligned_alloc(64, (bytes + 63) / 64 * 64);
            size_ = at_ ? bytes : 0;
        }
        return at_;
    }

  private:
    uint8_t *at_ = nullptr;
    size_t size_ = 0;
};

// For many rows: a panel's codes are unpacked once. Every sum has the terms of Q4Product<PackedCodes> in their order.
static void wide_product(const WwWeight *w, const Activations *a, int panel, int panel_end, int row, int row_end,
                         float *out, int ldo, const float *residual) {
    static thread_local Scratch scratch;
    const int groups = w->cols / WW_GROUP;
    uint8_t *wide = scratch.take((size_t)groups * WideCodes::BYTES);
    if (!wide) return product<Q4Product<PackedCodes>>(w, a, panel, panel_end, row, row_end, out, ldo, residual);
    for (; panel < panel_end; panel++) {
        for (int g = 0; g < groups; g++) {
            const uint8_t *from = w->data + ((int64_t)panel * groups + g) * WW_Q4_BYTES;
            uint8_t *to = wide + (int64_t)g * WideCodes::BYTES;
            spread_q4(from, to);
            for (int i = 0; i < 2 * WW_PANEL; i += W) store((float *)(to + 512) + i, PackedCodes::scale(from, i));
        }
        panel_rows<Q4Product<WideCodes>>(w, wide, *a, panel * WW_PANEL, {row, row_end, ldo, out, residual});
    }
}
#endif

static void panels(const WwWeight *w, const Activations *a, int panel, int panel_end, int row, int row_end, float *out,
                   int ldo, const float *residual) {
    switch (w->kind) {
        case WW_F32: return product<FloatProduct<LoadF32>>(w, a, panel, panel_end, row, row_end, out, ldo, residual);
        case WW_F16: return product<FloatProduct<LoadF16>>(w, a, panel, panel_end, row, row_end, out, ldo, residual);
        case WW_BF16: return product<FloatProduct<LoadBF16>>(w, a, panel, panel_end, row, row_end, out, ldo, residual);
        case WW_Q4:
#ifdef WIDE_ROWS
            if (row_end - row >= MANY_ROWS)
                return wide_product(w, a, panel, panel_end, row, row_end, out, ldo, residual);
#endif
            return product<Q4Product<PackedCodes>>(w, a, panel, panel_end, row, row_end, out, ldo, residual);
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
