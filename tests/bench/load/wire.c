/* RFC 6455 frames of a client, and as much msgpack as the hub's frames need. */
#include "load.h"

#include <string.h>

static uint64_t big_endian(const uint8_t *p, int size) {
    uint64_t value = 0;
    for (int i = 0; i < size; i++) value = value << 8 | p[i];
    return value;
}

static const uint8_t *take(Reader *r, uint64_t size) {
    static const uint8_t nothing[16];
    if (r->bad || (uint64_t)(r->end - r->p) < size) {
        r->bad = true;
        return nothing;
    }
    const uint8_t *at = r->p;
    r->p += size;
    return at;
}

static uint32_t read_count(Reader *r, uint8_t fix, uint8_t fix_mask, uint8_t wide) {
    uint8_t tag = *take(r, 1);
    if ((tag & ~fix_mask & 0xff) == fix) return tag & fix_mask;
    if (tag == wide) return (uint32_t)big_endian(take(r, 2), 2);
    if (tag == wide + 1) return (uint32_t)big_endian(take(r, 4), 4);
    r->bad = true;
    return 0;
}

uint32_t read_array(Reader *r) { return read_count(r, 0x90, 0x0f, 0xdc); }

uint32_t read_map(Reader *r) { return read_count(r, 0x80, 0x0f, 0xde); }

int64_t read_int(Reader *r) {
    uint8_t tag = *take(r, 1);
    if (tag < 0x80) return tag;
    if (tag >= 0xe0) return (int8_t)tag;
    switch (tag) {
    case 0xcc: return (int64_t)big_endian(take(r, 1), 1);
    case 0xcd: return (int64_t)big_endian(take(r, 2), 2);
    case 0xce: return (int64_t)big_endian(take(r, 4), 4);
    case 0xcf: return (int64_t)big_endian(take(r, 8), 8);
    case 0xd0: return (int8_t)big_endian(take(r, 1), 1);
    case 0xd1: return (int16_t)big_endian(take(r, 2), 2);
    case 0xd2: return (int32_t)big_endian(take(r, 4), 4);
    case 0xd3: return (int64_t)big_endian(take(r, 8), 8);
    default: r->bad = true; return 0;
    }
}

bool read_bool(Reader *r) {
    uint8_t tag = *take(r, 1);
    if (tag != 0xc2 && tag != 0xc3) r->bad = true;
    return tag == 0xc3;
}

bool read_str(Reader *r, const char **text, uint32_t *size) {
    uint8_t tag = *take(r, 1);
    uint32_t count = 0;
    if (tag == 0xc0) {
        *text = "";
        *size = 0;
        return false;
    }
    if ((tag & 0xe0) == 0xa0) count = tag & 0x1f;
    else if (tag == 0xd9) count = *take(r, 1);
    else if (tag == 0xda) count = (uint32_t)big_endian(take(r, 2), 2);
    else if (tag == 0xdb) count = (uint32_t)big_endian(take(r, 4), 4);
    else r->bad = true;
    *text = (const char *)take(r, count);
    *size = r->bad ? 0 : count;
    return !r->bad;
}

void read_skip(Reader *r, uint32_t values) {
    uint64_t left = values;
    while (left && !r->bad) {
        uint8_t tag = *take(r, 1);
        left--;
        if (tag < 0x80 || tag >= 0xe0) continue;
        if (tag < 0x90) left += 2 * (uint64_t)(tag & 0x0f);
        else if (tag < 0xa0) left += tag & 0x0f;
        else if (tag < 0xc0) take(r, tag & 0x1f);
        else
            switch (tag) {
            case 0xc0: case 0xc2: case 0xc3: break;
            case 0xc4: case 0xd9: take(r, *take(r, 1)); break;
            case 0xc5: case 0xda: take(r, big_endian(take(r, 2), 2)); break;
            case 0xc6: case 0xdb: take(r, big_endian(take(r, 4), 4)); break;
            case 0xcc: case 0xd0: take(r, 1); break;
            case 0xcd: case 0xd1: take(r, 2); break;
            case 0xca: case 0xce: case 0xd2: take(r, 4); break;
            case 0xcb: case 0xcf: case 0xd3: take(r, 8); break;
            case 0xdc: left += big_endian(take(r, 2), 2); break;
            case 0xdd: left += big_endian(take(r, 4), 4); break;
            case 0xde: left += 2 * big_endian(take(r, 2), 2); break;
            case 0xdf: left += 2 * big_endian(take(r, 4), 4); break;
            default: r->bad = true; /* ext types: the hub has none */
            }
    }
}

static void put(Writer *w, uint64_t value, int size) {
    for (int i = size - 1; i >= 0; i--) *w->p++ = (uint8_t)(value >> (8 * i));
}

static void write_count(Writer *w, uint32_t size, uint8_t fix, uint8_t wide) {
    if (size < 16) *w->p++ = (uint8_t)(fix | size);
    else {
        *w->p++ = wide;
        put(w, size, 2);
    }
}

void write_array(Writer *w, uint32_t size) { write_count(w, size, 0x90, 0xdc); }

void write_map(Writer *w, uint32_t size) { write_count(w, size, 0x80, 0xde); }

void write_uint(Writer *w, uint64_t value) {
    if (value < 0x80) put(w, value, 1);
    else if (value < 0x100) put(w, 0xcc00 | value, 2);
    else if (value < 0x10000) {
        *w->p++ = 0xcd;
        put(w, value, 2);
    } else if (value <= 0xffffffff) {
        *w->p++ = 0xce;
        put(w, value, 4);
    } else {
        *w->p++ = 0xcf;
        put(w, value, 8);
    }
}

void write_str(Writer *w, const char *text, uint32_t size) {
    if (size < 32) *w->p++ = (uint8_t)(0xa0 | size);
    else if (size < 256) {
        *w->p++ = 0xd9;
        *w->p++ = (uint8_t)size;
    } else {
        *w->p++ = 0xda;
        put(w, size, 2);
    }
    memcpy(w->p, text, size);
    w->p += size;
}

void write_nil(Writer *w) { *w->p++ = 0xc0; }

size_t ws_encode(uint8_t *out, uint8_t first, const uint8_t *payload, size_t size) {
    Writer w = {out};
    *w.p++ = first;
    if (size < 126) *w.p++ = (uint8_t)(0x80 | size);
    else if (size < 65536) {
        *w.p++ = 0x80 | 126;
        put(&w, size, 2);
    } else {
        *w.p++ = 0x80 | 127;
        put(&w, size, 8);
    }
    uint8_t mask[8];
    uint32_t key = (uint32_t)random_u64();
    memcpy(mask, &key, 4);
    memcpy(mask + 4, &key, 4);
    memcpy(w.p, mask, 4);
    w.p += 4;
    uint64_t wide;
    memcpy(&wide, mask, 8);
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy(&word, payload + i, 8);
        word ^= wide;
        memcpy(w.p + i, &word, 8);
    }
    for (; i < size; i++) w.p[i] = payload[i] ^ mask[i & 3];
    return (size_t)(w.p - out) + size;
}

int ws_header(const uint8_t *data, size_t have, uint8_t *first, uint64_t *size) {
    if (have < 2) return 0;
    *first = data[0];
    if (data[0] & 0x70 || data[1] & 0x80) return -1; /* no extension was agreed; servers do not mask */
    uint8_t length = data[1];
    if (length < 126) {
        *size = length;
        return 2;
    }
    int more = length == 126 ? 2 : 8;
    if (have < (size_t)(2 + more)) return 0;
    *size = big_endian(data + 2, more);
    return 2 + more;
}
