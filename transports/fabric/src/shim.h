/*
 * What Panta asks of libfabric, as one table of functions.
 *
 * A *fabric* here is one endpoint with all that it needs: libfabric's fabric,
 * domain, address vector, completion queue and a reliable unconnected endpoint
 * (FI_EP_RDM). A target registers memory and makes progress; an initiator reads
 * from it with one-sided reads. Both open the same kind of object.
 *
 * Who owns what: strings and structs given to a call are read within it.
 * Memory given to `add_memory` must stay mapped until `remove_memory` returns,
 * memory given to `read` until its completion was taken or `close` returned.
 * After `close` nothing is written to memory given to `read`: the endpoint goes
 * first, then memory, then the rest.
 *
 * Threads: one call at a time on one fabric; different fabrics are independent.
 * Nothing here sleeps, prints or starts a thread (a provider may).
 *
 * Every call that can fail returns 0 or the negative errno of libfabric and
 * says in `panta_fabric_error` which call it was and what the library said of it.
 */
#ifndef PANTA_FABRIC_SHIM_H
#define PANTA_FABRIC_SHIM_H

#include <stdint.h>

/* Changes whenever anything below does. */
#define PANTA_FABRIC_TABLE_VERSION 1u

#define PANTA_FABRIC_NAME_BYTES 64
#define PANTA_FABRIC_TEXT_BYTES 256

struct panta_fabric;
struct panta_fabric_memory;

struct panta_fabric_error {
    int32_t code; /* positive errno, as fi_strerror takes it */
    char text[PANTA_FABRIC_TEXT_BYTES];
};

/* What a provider demands, and what it can do. */
#define PANTA_FABRIC_LOCAL 1u           /* local buffers must be registered too */
#define PANTA_FABRIC_VIRTUAL_ADDRESS 2u /* remote addresses are the target's virtual ones */
#define PANTA_FABRIC_PROVIDER_KEY 4u    /* the provider picks the keys */
#define PANTA_FABRIC_ENDPOINT_MEMORY 8u /* memory is bound to the endpoint */
#define PANTA_FABRIC_MANUAL 16u         /* a target must call `progress` for reads to go on */
#define PANTA_FABRIC_RAW_KEY 32u        /* keys of many bytes: refused by `open` */

struct panta_fabric_info {
    char provider[PANTA_FABRIC_NAME_BYTES];
    char domain[PANTA_FABRIC_NAME_BYTES];
    uint32_t address_format;
    uint32_t flags;
    uint64_t max_message_bytes;
    uint64_t depth; /* reads that may be under way at once */
    uint64_t key_bytes;
};

struct panta_fabric_options {
    const char *provider; /* as "tcp;ofi_rxm"; NULL: whichever comes first */
    const char *domain;   /* as "cxi0"; NULL: any */
    const char *node;     /* source address or host name to bind to; NULL: any */
    const void *auth_key; /* what the network demands, as a cxi service and VNI; NULL: none */
    uint64_t auth_key_bytes;
    const void *peer; /* an initiator's target, so that the route fits it; NULL: none */
    uint64_t peer_bytes;
    uint32_t address_format; /* of `peer`; 0: any */
    uint32_t depth;          /* reads under way at once that are wished for */
};

struct panta_fabric_completion {
    uint64_t token; /* as given to `read`; UINT64_MAX where the provider names none */
    int32_t error;  /* 0, or a positive errno */
    char text[PANTA_FABRIC_TEXT_BYTES];
};

struct panta_fabric_table {
    uint32_t version; /* PANTA_FABRIC_TABLE_VERSION */
    uint32_t bytes;   /* of this struct */

    /* Opens libfabric.so.1 and finds what is needed of it. Must have returned 0
     * before any other call; may be called again, from one thread at a time. */
    int (*start)(struct panta_fabric_error *error);

    /* Major << 16 | minor of the library that was opened, and of the headers. */
    uint32_t (*library_version)(void);
    uint32_t (*header_version)(void);

    /* Writes up to `capacity` providers that can do one-sided reads, in the
     * library's order, and their number to `count`. */
    int (*providers)(const struct panta_fabric_options *options, struct panta_fabric_info *out,
                     uint64_t capacity, uint64_t *count, struct panta_fabric_error *error);

    int (*open)(const struct panta_fabric_options *options, struct panta_fabric **out,
                struct panta_fabric_error *error);
    void (*close)(struct panta_fabric *fabric);
    void (*describe)(const struct panta_fabric *fabric, struct panta_fabric_info *out);

    /* This endpoint's address. `bytes`: the room there is, then those written. */
    int (*address)(struct panta_fabric *fabric, void *out, uint64_t *bytes,
                   struct panta_fabric_error *error);

    /* A descriptor that gets readable when `progress` should be called, or -1. */
    int (*wait_fd)(const struct panta_fabric *fabric);
    /* 1: nothing lies there, one may sleep on the descriptor; 0: call `progress`. */
    int (*may_sleep)(struct panta_fabric *fabric);

    /* For reads by peers (`remote`) under `wished_key`, if the provider takes wishes;
     * else as a local buffer of `read`. */
    int (*add_memory)(struct panta_fabric *fabric, void *start, uint64_t bytes, int remote,
                      uint64_t wished_key, struct panta_fabric_memory **out,
                      struct panta_fabric_error *error);
    uint64_t (*key)(const struct panta_fabric_memory *memory);
    int (*remove_memory)(struct panta_fabric_memory *memory, struct panta_fabric_error *error);

    int (*add_peer)(struct panta_fabric *fabric, const void *address, uint64_t bytes,
                    uint64_t *peer, struct panta_fabric_error *error);

    /* Starts one read of at most max_message_bytes. -FI_EAGAIN: call `progress`,
     * then again. `local` may be NULL where PANTA_FABRIC_LOCAL is not set. */
    int (*read)(struct panta_fabric *fabric, uint64_t peer, void *into, uint64_t bytes,
                struct panta_fabric_memory *local, uint64_t address, uint64_t key, uint64_t token,
                struct panta_fabric_error *error);

    /* Moves things along, and takes up to `capacity` completions: their number,
     * or a negative errno when the queue itself is broken. */
    int64_t (*progress)(struct panta_fabric *fabric, struct panta_fabric_completion *out,
                        uint64_t capacity, struct panta_fabric_error *error);
};

const struct panta_fabric_table *panta_fabric_shim_table(void);

#endif
