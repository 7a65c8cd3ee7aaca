// The single operations behind the C boundary, and the choice of instruction set.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime.h"

namespace {

// One product of each kind on made-up numbers: a set of kernels is used only where it agrees with the plain ones here.
bool agrees(const Kernels &one, const Kernels &other) {
    const int rows = 3, columns = 64, kinds[] = {WW_F32, WW_F16, WW_Q4, WW_Q8};
    uint32_t state = 1;
    auto draw = [&] { return (state = state * 1664525u + 1013904223u) >> 16; };
    for (int kind : kinds) {
        std::vector<uint8_t> data(2 * ww_panel_bytes(kind, columns));
        for (auto &byte : data) byte = (uint8_t)draw();
        for (int p = 0; p < 2; p++) {  // sane floats: exponents near one
            uint8_t *panel = data.data() + p * ww_panel_bytes(kind, columns);
            auto half = [&](uint8_t *at) { at[1] = (uint8_t)(0x34 | (at[1] & 0x83)); };
            if (kind == WW_F16)
                for (int i = 0; i < columns * 16; i++) half(panel + i * 2);
            if (kind == WW_F32)
                for (int i = 0; i < columns * 16; i++) {
                    const float value = (float)(int8_t)panel[i * 4] / 64;
                    memcpy(panel + i * 4, &value, 4);
                }
            for (int g = 0; g < columns / WW_GROUP; g++)
                for (int i = 0; i < 32; i++) {
                    if (kind == WW_Q4) half(panel + g * WW_Q4_BYTES + 256 + i * 2);
                    if (kind == WW_Q8 && i < 16) half(panel + g * WW_Q8_BYTES + 512 + i * 2);
                }
        }
        const WwWeight weight = {kind, 29, columns, 0, data.data(), nullptr};
        std::vector<float> x(rows * columns), scale(rows * 2), sum(rows * 2), a(rows * 29), b(rows * 29);
        std::vector<int8_t> q(rows * columns);
        for (auto &value : x) value = (float)(int)(draw() % 2001) / 1000 - 1;
        for (int r = 0; r < rows; r++)
            other.quantise(&x[r * columns], columns, &q[r * columns], &scale[r * 2], &sum[r * 2]);
        const Activations left = {x.data(), q.data(), scale.data(), sum.data(), columns};
        one.panels(&weight, &left, 0, 2, 0, rows, a.data(), 29, nullptr);
        other.panels(&weight, &left, 0, 2, 0, rows, b.data(), 29, nullptr);
        float top = 0, worst = 0;
        for (size_t i = 0; i < a.size(); i++) {
            top = fmaxf(top, fabsf(b[i]));
            worst = fmaxf(worst, fabsf(a[i] - b[i]));
        }
        if (!(worst <= 1e-4f * top)) return false;
    }
    return true;
}

const Kernels &choose() {
    const char *asked = getenv("WINDWARD_ISA");
    const Kernels *known[] = {kernels_avx512(), kernels_avx2()};
    for (const Kernels *set : known) {
        if (!set || (asked && *asked && strcmp(asked, set->name))) continue;
        if (agrees(*set, *kernels_plain())) return *set;
    }
    return *kernels_plain();
}

}  // namespace

const Kernels &kernels() {
    static const Kernels &chosen = choose();
    return chosen;
}

Pool &pool() {
    static Pool *one = new Pool;  // never destroyed: helpers may outlive the interpreter's last breath
    return *one;
}

bool reads_codes(const WwLinear *linear) {
    for (int i = 0; i < linear->parts; i++)
        if (linear->part[i].kind >= WW_Q4) return true;
    return false;
}

void apply(const WwLinear *linear, const Activations *a, int rows, float *out, int ldo, const float *residual) {
    const int block = 128, blocks = (rows + block - 1) / block, threads = pool().threads();
    int panels = 0;
    for (int i = 0; i < linear->parts; i++) panels += ww_panels(linear->part[i].rows);
    const int shares = threads == 1 ? 1 : threads * 3 < panels ? threads * 3 : panels;
    spread(pool(), blocks * shares, [&](int piece, int) {
        const int row = piece / shares * block, share = piece % shares;
        const int begin = (int)((int64_t)panels * share / shares), end = (int)((int64_t)panels * (share + 1) / shares);
        const int row_end = row + block < rows ? row + block : rows;
        int passed = 0, column = 0;
        for (int i = 0; i < linear->parts; i++) {
            const WwWeight *weight = &linear->part[i];
            const int own = ww_panels(weight->rows);
            const int from = begin > passed ? begin - passed : 0, to = end - passed < own ? end - passed : own;
            if (from < to)
                kernels().panels(weight, a, from, to, row, row_end, out + column, ldo,
                                 residual ? residual + column : nullptr);
            passed += own;
            column += weight->rows;
        }
    });
}

void attend_all(const AttentionUnit &base, const int32_t *first, const int32_t *tables, int table_width, int sequences,
                int heads) {
    static Space space;
    struct Place {
        int sequence, head, begin, end;
    };
    static std::vector<Place> places;
    places.clear();
    const int queries = UNIT_ROWS / base.group;
    for (int s = 0; s < sequences; s++)
        for (int at = first[s]; at < first[s + 1]; at += queries)
            for (int h = 0; h < heads; h++)
                places.push_back({s, h, at, at + queries < first[s + 1] ? at + queries : first[s + 1]});
    const int64_t own = attention_scratch(base.head_dim);
    float *scratch = space.take<float>(own * pool().threads());
    spread(pool(), (int)places.size(), [&](int piece, int worker) {
        const Place &place = places[piece];
        AttentionUnit unit = base;
        unit.begin = place.begin;
        unit.end = place.end;
        unit.kv_head = place.head;
        unit.table = tables + (int64_t)place.sequence * table_width;
        unit.scratch = scratch + own * worker;
        kernels().attend(&unit);
    });
}

WW_EXPORT const char *ww_isa() { return kernels().name; }
WW_EXPORT void ww_set_threads(int threads) { pool().resize(threads); }
WW_EXPORT int ww_threads() { return pool().threads(); }

WW_EXPORT void ww_linear(const WwLinear *linear, const float *x, int rows, int cols, float *out) {
    static Rows kept;
    float *copy = kept.floats(rows, cols);
    if (rows) memcpy(copy, x, sizeof(float) * rows * cols);
    if (reads_codes(linear))
        for (int r = 0; r < rows; r++) kept.quantise(r);
    apply(linear, &kept.of, rows, out, linear->rows, nullptr);
}

WW_EXPORT void ww_quantise(const float *x, int rows, int cols, int8_t *q, float *scale, float *sum) {
    const int groups = cols / WW_GROUP;
    for (int r = 0; r < rows; r++)
        kernels().quantise(x + (int64_t)r * cols, cols, q + (int64_t)r * cols, scale + r * groups, sum + r * groups);
}

WW_EXPORT void ww_rms_norm(const float *x, const float *weight, float eps, int rows, int cols, float *out) {
    for (int64_t r = 0; r < rows; r++) kernels().rms_norm(x + r * cols, weight, eps, cols, out + r * cols);
}

WW_EXPORT void ww_swiglu(const float *gate, const float *up, int64_t count, float *out) {
    kernels().swiglu(gate, up, (int)count, out);
}

WW_EXPORT void ww_rope(float *x, const float *cos, const float *sin, int rows, int head_dim) {
    for (int64_t r = 0; r < rows; r++)
        kernels().rope(x + r * head_dim, cos + r * (head_dim / 2), sin + r * (head_dim / 2), head_dim);
}

WW_EXPORT void ww_row(const WwWeight *weight, int row, float *out) { kernels().row(weight, row, out); }

// k, v (T, Hkv, D) to their places: position p of a sequence lies in block table[p / 16], slot p % 16.
WW_EXPORT void ww_append(const WwKv *kv, int layer, int kv_heads, int head_dim, const WwStep *step, const float *k,
                         const float *v) {
    for (int s = 0; s < step->sequences; s++)
        for (int t = step->first[s]; t < step->first[s + 1]; t++) {
            const int at = step->position[t];
            const int block = step->table[(int64_t)s * step->table_width + at / WW_PAGE];
            const int64_t from = (int64_t)t * kv_heads * head_dim;
            kernels().append(kv, layer, kv_heads, head_dim, block, at % WW_PAGE, k + from, v + from);
        }
}

// q (T, H, D) against the pages; out (T, H, D). The keys of the step's own tokens must be stored.
WW_EXPORT void ww_attend(const WwKv *kv, int layer, int heads, int kv_heads, int head_dim, int window, float scale,
                         const WwStep *step, const float *q, float *out) {
    AttentionUnit base = {};
    base.q = q;
    base.ldq = base.ldo = heads * head_dim;
    base.group = heads / kv_heads;
    base.head_dim = head_dim;
    base.kv_heads = kv_heads;
    base.window = window;
    base.position = step->position;
    base.kv = kv;
    base.layer = layer;
    base.scale = scale;
    base.out = out;
    attend_all(base, step->first, step->table, step->table_width, step->sequences, kv_heads);
}
