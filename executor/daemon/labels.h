/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_LABELS_H
#define WFE_EXECUTOR_LABELS_H

/*
 * Labels of containerd's objects. protobuf-c turns each map<string,string> into a
 * message type of its own, all of one layout; these functions speak that layout, so that one
 * list of labels serves every request.
 */

#include <stddef.h>

#include <protobuf-c/protobuf-c.h>

#define WFE_LABELS_MAX 24

/* containerd refuses a label whose key and value together are longer. */
#define WFE_LABEL_MAX_BYTES 4096

struct wfe_label {
    const char *key;
    const char *value;
};

struct wfe_label_entry {
    ProtobufCMessage base;
    char *key;
    char *value;
};

/* A request's labels; views into the strings it was made of. */
struct wfe_label_map {
    struct wfe_label_entry entries[WFE_LABELS_MAX];
    struct wfe_label_entry *pointers[WFE_LABELS_MAX];
    size_t count;
};

/* descriptor is that of the request's own entry message, e.g.
 * &leases__create_request__labels_entry__descriptor. At most WFE_LABELS_MAX labels. */
void wfe_label_map_init(struct wfe_label_map *map, const ProtobufCMessageDescriptor *descriptor,
    const struct wfe_label *labels, size_t count);

/* Give a request (with fields labels and n_labels) the labels of a map. */
#define WFE_LABEL_MAP_ATTACH(request, map)                                                         \
    do {                                                                                           \
        (request)->labels = (void *)(map)->pointers;                                               \
        (request)->n_labels = (map)->count;                                                        \
    } while (0)

/* The value of key in a reply's `labels` (of n entries), a view; NULL when it is not there. */
const char *wfe_label_find(void *labels, size_t count, const char *key);

#endif
