#include "proto/rpc_internal.h"

#include <assert.h>
#include <string.h>

#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>

void rpc_init(void)
{
        /* What goes wrong is ours to say, in one line, and as often as is good: GRPC_VERBOSITY=error adds gRPC's words. */
        setenv("GRPC_VERBOSITY", "NONE", 0);
        grpc_init();
}

void rpc_shutdown(void)
{
        /* The plain grpc_shutdown leaves a thread of its own behind that may outlive main. */
        grpc_shutdown_blocking();
}

static const struct {
        const char *name;
        int error;
} codes[] = {
        [RPC_OK] = { "OK", 0 },
        [RPC_CANCELLED] = { "CANCELLED", -ECANCELED },
        [RPC_UNKNOWN] = { "UNKNOWN", -EIO },
        [RPC_INVALID_ARGUMENT] = { "INVALID_ARGUMENT", -EINVAL },
        [RPC_DEADLINE_EXCEEDED] = { "DEADLINE_EXCEEDED", -ETIMEDOUT },
        [RPC_NOT_FOUND] = { "NOT_FOUND", -ENOENT },
        [RPC_ALREADY_EXISTS] = { "ALREADY_EXISTS", -EEXIST },
        [RPC_PERMISSION_DENIED] = { "PERMISSION_DENIED", -EACCES },
        [RPC_RESOURCE_EXHAUSTED] = { "RESOURCE_EXHAUSTED", -EBUSY },
        [RPC_FAILED_PRECONDITION] = { "FAILED_PRECONDITION", -ESTALE },
        [RPC_ABORTED] = { "ABORTED", -EAGAIN },
        [RPC_OUT_OF_RANGE] = { "OUT_OF_RANGE", -ERANGE },
        [RPC_UNIMPLEMENTED] = { "UNIMPLEMENTED", -EOPNOTSUPP },
        [RPC_INTERNAL] = { "INTERNAL", -EIO },
        [RPC_UNAVAILABLE] = { "UNAVAILABLE", -EHOSTUNREACH },
        [RPC_DATA_LOSS] = { "DATA_LOSS", -EBADMSG },
        [RPC_UNAUTHENTICATED] = { "UNAUTHENTICATED", -EACCES },
};

static enum rpc_code known_code(int code)
{
        return code >= 0 && (size_t)code < ARRAY_SIZE(codes) ? (enum rpc_code)code : RPC_UNKNOWN;
}

const char *rpc_code_name(enum rpc_code code)
{
        return codes[known_code((int)code)].name;
}

int rpc_status_errno(const struct rpc_status *status)
{
        return codes[known_code((int)status->code)].error;
}

/* The longest part of at most MAX bytes that does not end within a UTF-8 sequence. */
static size_t cut_text(const uint8_t *text, size_t len, size_t max)
{
        if (len <= max)
                return len;
        for (len = max; len > 0 && (text[len] & 0xc0) == 0x80;)
                len--;
        return len;
}

void rpc_status_set(struct rpc_status *ret, int code, const void *text, size_t len)
{
        const uint8_t *in = text;

        len = cut_text(in, len, sizeof(ret->message) - 1);
        for (size_t i = 0; i < len; i++)
                ret->message[i] = in[i] < 0x20 || in[i] == 0x7f ? '?' : (char)in[i];
        ret->message[len] = '\0';
        ret->code = known_code(code);
}

const uint8_t *rpc_message_open(struct rpc_message *message, size_t *ret_len)
{
        grpc_byte_buffer_reader reader;
        grpc_slice *first;

        *ret_len = grpc_byte_buffer_length(message->buffer);
        if (!grpc_byte_buffer_reader_init(&reader, message->buffer) ||
            !grpc_byte_buffer_reader_peek(&reader, &first)) {
                *ret_len = 0;
                return (const uint8_t *)"";
        }
        if (GRPC_SLICE_LENGTH(*first) == *ret_len)
                return GRPC_SLICE_START_PTR(*first);
        grpc_byte_buffer_reader_destroy(&reader);

        grpc_byte_buffer_reader_init(&reader, message->buffer);
        message->whole = grpc_byte_buffer_reader_readall(&reader);
        message->joined = true;
        grpc_byte_buffer_reader_destroy(&reader);
        return GRPC_SLICE_START_PTR(message->whole);
}

void rpc_message_clear(struct rpc_message *message)
{
        if (message->joined)
                grpc_slice_unref(message->whole);
        if (message->buffer)
                grpc_byte_buffer_destroy(message->buffer);
        *message = (struct rpc_message){ 0 };
}

void rpc_batch(grpc_call *call, const grpc_op *ops, size_t n_ops, void *tag)
{
        grpc_call_error r _unused_ = grpc_call_start_batch(call, ops, n_ops, tag, NULL);

        assert(r == GRPC_CALL_OK);
}

gpr_timespec rpc_deadline(int64_t timeout_ns)
{
        if (timeout_ns == INT64_MAX)
                return gpr_inf_future(GPR_CLOCK_MONOTONIC);
        return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(timeout_ns, GPR_TIMESPAN));
}
