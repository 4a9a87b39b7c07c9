/* One session: HELLO, SEND and its answers, entries in order, repair by SYNC. docs/protocol.md is the norm. */
#include "load.h"

#include <string.h>

enum { HELLO = 1, WELCOME, SYNC, PAGE, SEND, SENT, ENTRY, ACK, GAP = 12, PING = 19, ERROR = 21, BYE };

static uint8_t body[8192];

static void send_frame(Conn *c, const uint8_t *start, const Writer *w) {
    conn_frame(c, WS_BINARY, start, (size_t)(w->p - start));
}

static uint32_t next_id(Conn *c) {
    if (!++c->next_id) c->next_id = 1;
    return c->next_id;
}

void session_hello(Conn *c) {
    uint8_t data[4096];
    char device[32];
    int size = snprintf(device, sizeof device, "bench-%u", c->index);
    Writer w = {data};
    write_array(&w, 1);
    write_array(&w, 6);
    write_uint(&w, HELLO);
    write_uint(&w, next_id(c));
    write_str(&w, c->token, c->token_size);
    write_str(&w, device, (uint32_t)size);
    write_map(&w, 2);
    write_str(&w, "platform", 8);
    write_str(&w, "bench", 5);
    write_str(&w, "version", 7);
    write_str(&w, "1", 1);
    if (c->was_down && c->stream) {
        write_map(&w, 1);
        write_str(&w, c->stream->name, c->stream->name_size);
        write_uint(&w, (uint64_t)c->seq);
    } else {
        write_nil(&w);
    }
    send_frame(c, data, &w);
}

/* The frame of a slot: the same key for the same message, however often it is sent. */
static void send_slot(Conn *c, Slot *slot) {
    uint8_t data[8192 + 256];
    char key[64];
    int size = snprintf(key, sizeof key, "%s-%u-%u", load.run, c->index, slot->key);
    Writer w = {data};
    write_array(&w, 1);
    write_array(&w, 6);
    write_uint(&w, SEND);
    write_uint(&w, slot->id);
    write_str(&w, c->stream->name, c->stream->name_size);
    write_str(&w, key, (uint32_t)size);
    write_str(&w, "text", 4);
    if (!body[0]) memset(body, 'x', sizeof body);
    write_str(&w, (const char *)body, load.body_size);
    send_frame(c, data, &w);
}

void session_send(Conn *c, uint64_t due_ns) {
    for (uint32_t i = 0; i < load.outstanding; i++) {
        Slot *slot = &c->slots[i];
        if (slot->id) continue;
        *slot = (Slot){.id = next_id(c), .key = ++c->next_key, .due_ns = due_ns};
        c->waiting++;
        load.unanswered++;
        send_slot(c, slot);
        return;
    }
    load.n.overruns++; /* paced faster than the server answers: not sent at all */
}

void session_fill(Conn *c) {
    if (!load.window || !load.sending || c->state != READY || !c->slots) return;
    uint64_t now = now_ns();
    while (c->waiting < load.window) session_send(c, now);
}

void session_retry(Conn *c, uint64_t now) {
    if (c->state != READY || !c->slots || !c->waiting) return;
    for (int i = 0; i < SLOTS; i++) {
        Slot *slot = &c->slots[i];
        if (slot->id && slot->again_ns && slot->again_ns <= now) {
            slot->again_ns = 0;
            send_slot(c, slot);
        }
    }
    conn_flush(c);
}

void session_ack(Conn *c, uint64_t now) {
    if (c->state != READY || !c->stream || now - c->acked_ns < (uint64_t)load.ack_ms * 1000000) return;
    uint8_t data[64];
    Writer w = {data};
    write_array(&w, 1);
    write_array(&w, 3);
    write_uint(&w, ACK);
    write_uint(&w, next_id(c));
    write_array(&w, 1);
    write_array(&w, 2);
    write_str(&w, c->stream->name, c->stream->name_size);
    write_uint(&w, (uint64_t)c->seq);
    send_frame(c, data, &w);
    conn_flush(c);
    c->acked_ns = now;
}

void session_sync(Conn *c) {
    uint8_t data[64];
    Writer w = {data};
    write_array(&w, 1);
    write_array(&w, 5);
    write_uint(&w, SYNC);
    write_uint(&w, next_id(c));
    write_str(&w, c->stream->name, c->stream->name_size);
    write_uint(&w, (uint64_t)c->seq);
    write_uint(&w, 200);
    send_frame(c, data, &w);
    c->syncing = true;
    load.n.resyncs++;
}

static bool mine(const Conn *c, const char *name, uint32_t size) {
    const Stream *s = c->stream;
    return s && size == s->name_size && !memcmp(name, s->name, size);
}

static void entry(Conn *c, int64_t seq) {
    load.n.entries++;
    if (c->stream->head < seq) c->stream->head = seq;
    if (seq == c->seq + 1) {
        c->seq = seq;
    } else if (seq <= c->seq) {
        load.n.repeats++;
    } else {
        if (seq > c->ahead) c->ahead = seq;
        if (!c->syncing) { /* a hole that nobody told us of: the hub has broken its promise */
            load.n.holes++;
            session_sync(c);
        }
    }
}

/* Fan-out: this connection has one message more. A broadcast that everybody has is paid back with a credit. */
static void received(Conn *c) {
    load.n.entries++;
    if (++c->entries % load.batch) return;
    uint32_t *got = &load.got[(c->entries / load.batch) % BROADCASTS];
    if (++*got == load.connections) {
        *got = 0;
        load.completed++;
    }
}

static void welcome(Conn *c, Reader *r) {
    read_skip(r, 5); /* session, user, enterprise, roles, time */
    read_skip(r, 1); /* inbox */
    read_skip(r, 2); /* ping_s, limits */
    const char *name;
    uint32_t size, pairs = read_map(r);
    while (pairs-- && !r->bad) {
        read_str(r, &name, &size);
        int64_t value = read_int(r);
        if (size == 7 && !memcmp(name, "base_ms", 7)) load.retry_base_ms = (uint64_t)value;
        if (size == 6 && !memcmp(name, "cap_ms", 6)) load.retry_cap_ms = (uint64_t)value;
    }
    if (c->state != GREETING) return;
    c->state = READY;
    load.opening--;
    load.ready++;
    c->attempts = 0;
    if (c->was_down) {
        load.n.reconnects++;
        for (int i = 0; c->slots && i < SLOTS; i++)
            if (c->slots[i].id) send_slot(c, &c->slots[i]);
    }
}

static Slot *slot_of(Conn *c, int64_t id) {
    for (int i = 0; id && c->slots && i < SLOTS; i++)
        if (c->slots[i].id == id) return &c->slots[i];
    return NULL;
}

static void sent(Conn *c, int64_t id, Reader *r) {
    read_skip(r, 2); /* conversation, key */
    int64_t seq = read_int(r);
    read_skip(r, 2); /* entry id, time */
    bool duplicate = read_bool(r);
    Slot *slot = slot_of(c, id);
    if (r->bad || !slot) return;
    if (load.measuring) histogram_add(load.acks, (now_ns() - slot->due_ns) / 1000);
    slot->id = 0;
    c->waiting--;
    load.unanswered--;
    load.n.sent++;
    if (duplicate) load.n.duplicate_sent++;
    c->stream->sent++;
    if (c->stream->head < seq) c->stream->head = seq;
}

static void gap(Conn *c, Reader *r) {
    const char *name;
    uint32_t size;
    read_str(r, &name, &size);
    if (!mine(c, name, size)) return;
    read_int(r);
    int64_t last = read_int(r);
    load.n.gap_frames++;
    if (last > c->ahead) c->ahead = last;
    if (!c->syncing && c->ahead > c->seq) session_sync(c);
}

static void page(Conn *c, Reader *r) {
    read_skip(r, 2); /* stream, epoch */
    int64_t head = read_int(r);
    uint32_t entries = read_array(r);
    while (entries-- && !r->bad) {
        uint32_t fields = read_array(r);
        read_skip(r, 1);
        int64_t seq = read_int(r);
        read_skip(r, fields - 2);
        if (seq == c->seq + 1) c->seq = seq;
    }
    if (head > c->ahead) c->ahead = head;
    if (c->stream->head < head) c->stream->head = head;
    c->syncing = false;
    if (c->ahead > c->seq) session_sync(c);
}

static void copy(char *to, size_t room, const char *text, uint32_t size) {
    if (size >= room) size = (uint32_t)room - 1;
    memcpy(to, text, size);
    to[size] = 0;
}

static void error(Conn *c, int64_t id, Reader *r) {
    const char *code;
    uint32_t size;
    read_str(r, &code, &size);
    load.n.errors++;
    copy(load.n.error, sizeof load.n.error, code, size);
    read_skip(r, 1);
    bool temporary = read_bool(r);
    int64_t retry_ms = read_int(r);
    Slot *slot = slot_of(c, id);
    if (slot && temporary) {
        slot->again_ns = now_ns() + (uint64_t)(retry_ms > 0 ? retry_ms : 200) * 1000000;
    } else if (slot) {
        slot->id = 0;
        c->waiting--;
        load.unanswered--;
    } else {
        c->syncing = false; /* it was a SYNC; the next entry asks again */
    }
}

void session_message(Conn *c, const uint8_t *payload, size_t size) {
    if (load.raw) {
        received(c);
        return;
    }
    Reader r = {payload, payload + size, false};
    uint32_t frames = read_array(&r);
    while (frames-- && !r.bad && c->fd >= 0) {
        uint32_t fields = read_array(&r);
        Reader inner = r;
        int64_t op = read_int(&inner), id = read_int(&inner);
        const char *name = "";
        uint32_t name_size = 0;
        switch (op) {
        case ENTRY:
            read_str(&inner, &name, &name_size);
            if (!mine(c, name, name_size)) load.n.other_entries++;
            else if (load.got) received(c);
            else entry(c, read_int(&inner));
            break;
        case SENT: sent(c, id, &inner); break;
        case WELCOME: welcome(c, &inner); break;
        case PAGE: page(c, &inner); break;
        case GAP: gap(c, &inner); break;
        case ERROR: error(c, id, &inner); break;
        case PING:
            load.n.pings++;
            if (!id) {
                uint8_t data[32];
                Writer w = {data};
                write_array(&w, 1);
                write_array(&w, 3);
                write_uint(&w, PING);
                write_uint(&w, 0);
                write_uint(&w, (uint64_t)read_int(&inner));
                send_frame(c, data, &w);
            }
            break;
        case BYE:
            load.n.byes++;
            load.n.bye_code = (int)read_int(&inner);
            read_str(&inner, &name, &name_size);
            copy(load.n.bye, sizeof load.n.bye, name, name_size);
            break;
        default: break;
        }
        if (inner.bad) load.n.protocol_errors++;
        if (frames) read_skip(&r, fields); /* the last frame's rest need not be walked */
    }
    if (r.bad) load.n.protocol_errors++;
}
