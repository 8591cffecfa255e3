/* The names log: what function and module ids mean, for whoever reads the trace. */
#include "producer.h"
#include <string.h>

int atf_name_put(uint32_t kind, uint64_t id, uint32_t line, const char *name, size_t name_bytes, const char *file, size_t file_bytes)
{
    atf_registry *reg = atf_current.registry;
    if (!reg) return 0;
    if (name_bytes > 4096) name_bytes = 4096;
    if (file_bytes > 4096) file_bytes = 4096;
    uint64_t tail = reg->names_tail, text = name_bytes + file_bytes + 2, length = (sizeof(atf_name) + text + 7) / 8 * 8;
    if (tail + length > reg->names_capacity) {
        reg->names_lost++;
        return 0;
    }
    char *p = (char *)reg + reg->names_offset + tail;
    atf_name head = {(uint32_t)length, kind, id, line, (uint32_t)text};
    memcpy(p, &head, sizeof head);
    p += sizeof head;
    memcpy(p, name, name_bytes);
    p[name_bytes] = 0;
    if (file_bytes) memcpy(p + name_bytes + 1, file, file_bytes);
    p[name_bytes + 1 + file_bytes] = 0;
    atf_store_release64(&reg->names_tail, tail + length); /* pairs with the reader's acquire */
    return 1;
}
