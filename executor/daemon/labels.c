/* SPDX-License-Identifier: MIT */
#include "executor/daemon/labels.h"

#include <assert.h>
#include <string.h>

void wfe_label_map_init(struct wfe_label_map *map, const ProtobufCMessageDescriptor *descriptor,
    const struct wfe_label *labels, size_t count)
{
    assert(count <= WFE_LABELS_MAX);
    assert(descriptor->sizeof_message == sizeof(struct wfe_label_entry));
    for (size_t i = 0; i < count; i++) {
        struct wfe_label_entry *entry = &map->entries[i];
        descriptor->message_init(&entry->base);
        entry->key = (char *)labels[i].key;
        entry->value = (char *)labels[i].value;
        map->pointers[i] = entry;
    }
    map->count = count;
}

const char *wfe_label_find(void *labels, size_t count, const char *key)
{
    struct wfe_label_entry **entries = labels;
    for (size_t i = 0; i < count; i++)
        if (strcmp(entries[i]->key, key) == 0)
            return entries[i]->value;
    return NULL;
}
