/* What the two files of the shim share. */
#ifndef PANTA_FABRIC_INTERNAL_H
#define PANTA_FABRIC_INTERNAL_H

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include "shim.h"

/* The few functions of libfabric that are not inline in its headers. */
struct library {
    void *handle;
    uint32_t version;
    int (*getinfo)(uint32_t version, const char *node, const char *service, uint64_t flags,
                   const struct fi_info *hints, struct fi_info **info);
    void (*freeinfo)(struct fi_info *info);
    struct fi_info *(*dupinfo)(const struct fi_info *info);
    int (*fabric)(struct fi_fabric_attr *attr, struct fid_fabric **fabric, void *context);
    const char *(*strerror)(int code);
};
extern struct library library;

/* A read under way. Providers with FI_CONTEXT write into `context`, which must
 * come first, until the completion was taken. */
struct operation {
    struct fi_context2 context;
    uint64_t token;
    uint32_t next; /* the next one of the free list */
};
#define NO_OPERATION UINT32_MAX

struct panta_fabric {
    struct fi_info *info;
    struct fid_fabric *fabric;
    struct fid_domain *domain;
    struct fid_av *av;
    struct fid_cq *cq;
    struct fid_ep *ep;
    struct panta_fabric_memory *memories; /* all that is registered */
    struct operation *operations;
    uint32_t depth;
    uint32_t free;
    int wait_fd;
};

struct panta_fabric_memory {
    struct fid_mr *mr;
    struct panta_fabric *fabric;
    struct panta_fabric_memory *next, **back;
};

/* Fills `error` from a libfabric return value and gives it back. */
int shim_failed(struct panta_fabric_error *error, const char *call, int64_t code);
void shim_describe(const struct fi_info *info, struct panta_fabric_info *out);

int shim_start(struct panta_fabric_error *error);
uint32_t shim_library_version(void);
uint32_t shim_header_version(void);
int shim_providers(const struct panta_fabric_options *options, struct panta_fabric_info *out,
                   uint64_t capacity, uint64_t *count, struct panta_fabric_error *error);
int shim_open(const struct panta_fabric_options *options, struct panta_fabric **out,
              struct panta_fabric_error *error);
void shim_close(struct panta_fabric *fabric);

#endif
