#include "server/access.h"

#include <string.h>

#include "base/log.h"
#include "base/path.h"
#include "proto/sync_service.pb-c.h"
#include "proto/wire_field.h"
#include "proto/workspace.pb-c.h"

/* Of one call. What was granted is looked up again once the file has been read again: a token that is taken away ends what it began. */
struct pass {
        struct token_claim claim; /* name is owned */
        int spider_field;
        uint64_t generation;           /* of the last look */
        char first[PATH_NAME_MAX + 1]; /* the spider of the first request; "": none named yet */
        char last[PATH_NAME_MAX + 1];  /* and of the last, where a stream has several */
        bool more;                     /* it has named others in between */
};

static const ProtobufCServiceDescriptor *const services[] = {
        &grpc__sync_service__descriptor,
        &fsyncfs__v1__workspace__descriptor,
};

/* "/package.Service/Method" is METHOD of SERVICE. */
static bool is_method(const ProtobufCServiceDescriptor *service, const ProtobufCMethodDescriptor *method,
                      const char *name)
{
        size_t len = strlen(service->name);

        return name[0] == '/' && strncmp(name + 1, service->name, len) == 0 && name[1 + len] == '/' &&
               strcmp(name + 2 + len, method->name) == 0;
}

int access_spider_field(const char *method)
{
        for (size_t i = 0; i < ARRAY_SIZE(services); i++)
                for (unsigned j = 0; j < services[i]->n_methods; j++) {
                        const ProtobufCMethodDescriptor *m = &services[i]->methods[j];
                        const ProtobufCFieldDescriptor *field;

                        if (!is_method(services[i], m, method))
                                continue;
                        field = protobuf_c_message_descriptor_get_field_by_name(m->input, "spider_id");
                        return field ? (int)field->id : 0;
                }
        return -ENOENT;
}

static enum rpc_code code_of(enum token_verdict verdict)
{
        switch (verdict) {
        case TOKEN_GRANTED:
                return RPC_OK;
        case TOKEN_NOT_THIS_ONE:
                return RPC_PERMISSION_DENIED;
        default:
                return RPC_UNAUTHENTICATED;
        }
}

static void release(void *arg)
{
        struct pass *pass = arg;

        free((char *)pass->claim.name);
        free(pass);
}

static int pass_new(const struct rpc_caller *caller, int spider_field, struct pass **ret)
{
        struct pass *pass = calloc(1, sizeof(*pass));

        if (!pass)
                return -ENOMEM;
        pass->spider_field = spider_field;
        pass->claim.has_token = caller->authorization != NULL;
        if (caller->authorization)
                token_digest(caller->authorization, strlen(caller->authorization), pass->claim.digest);
        pass->claim.name = caller->certificate ? strdup(caller->certificate) : NULL;
        if (caller->certificate && !pass->claim.name) {
                release(pass);
                return -ENOMEM;
        }
        *ret = pass;
        return 0;
}

static enum rpc_code admit(void *context, const char *method, const struct rpc_caller *caller, void **ret)
{
        struct token_file *tokens = context;
        int field = access_spider_field(method);
        struct pass *pass;
        enum rpc_code code;

        if (pass_new(caller, MAX(field, 0), &pass) < 0)
                return RPC_RESOURCE_EXHAUSTED;
        pass->generation = token_file_generation(tokens);
        code = code_of(token_file_judge(tokens, &pass->claim, NULL));
        if (code == RPC_OK && field < 0)
                code = RPC_UNIMPLEMENTED;
        if (code == RPC_OK) {
                *ret = pass;
                return code;
        }
        if (code == RPC_UNAUTHENTICATED)
                log_limited(LOG_LEVEL_WARNING, "refused caller", "%s refused to %s: %s", method, caller->peer,
                            caller->authorization ? "wrong token" : "no token was sent");
        release(pass);
        return code;
}

/* Every spider that a request names must be granted: which of several a parser would take does not matter then. */
static enum rpc_code look_at(struct token_file *tokens, struct pass *pass, const struct wire_field *f)
{
        if (f->tag != WIRE_TAG(pass->spider_field, WIRE_BYTES) || memchr(f->data, '\0', f->len))
                return RPC_INVALID_ARGUMENT;
        if (f->len >= sizeof(pass->last))
                return RPC_PERMISSION_DENIED; /* no spider has such a name */
        pass->more |= strcmp(pass->last, pass->first) != 0 &&
                      (strlen(pass->last) != f->len || memcmp(pass->last, f->data, f->len) != 0);
        memcpy(pass->last, f->data, f->len);
        pass->last[f->len] = '\0';
        if (!pass->first[0])
                strcpy(pass->first, pass->last);
        return code_of(token_file_judge(tokens, &pass->claim, pass->last));
}

static enum rpc_code check_request(struct token_file *tokens, struct pass *pass, const char *peer,
                                   const uint8_t *data, size_t len)
{
        struct wire_reader r = { .at = data, .end = data + len };
        enum rpc_code code = RPC_OK;

        while (code == RPC_OK && r.at < r.end) {
                struct wire_field f = { 0 };

                if (wire_read_field(&r, &f) < 0)
                        return RPC_INVALID_ARGUMENT;
                if (pass->spider_field > 0 && f.tag >> 3 == (uint32_t)pass->spider_field)
                        code = look_at(tokens, pass, &f);
        }
        if (code == RPC_PERMISSION_DENIED)
                log_limited(LOG_LEVEL_WARNING, "refused spider", "%s has no right to spider '%s'", peer,
                            pass->last);
        return code;
}

/* What was granted may have been taken away since. */
static enum rpc_code check_again(struct token_file *tokens, struct pass *pass)
{
        uint64_t generation = token_file_generation(tokens);
        enum token_verdict verdict;

        if (generation == pass->generation)
                return RPC_OK;
        if (pass->more) /* what it goes on with is not known: it may begin again */
                return RPC_UNAVAILABLE;
        verdict = token_file_judge(tokens, &pass->claim, pass->first[0] ? pass->first : NULL);
        if (verdict == TOKEN_GRANTED && pass->last[0])
                verdict = token_file_judge(tokens, &pass->claim, pass->last);
        if (verdict == TOKEN_GRANTED)
                pass->generation = generation;
        return code_of(verdict);
}

static enum rpc_code allow(void *context, void *pass, const char *peer, const uint8_t *data, size_t len)
{
        enum rpc_code code = check_again(context, pass);

        return code == RPC_OK && data ? check_request(context, pass, peer, data, len) : code;
}

const char *access_name(struct token_file *tokens, const void *arg, char buf[ACCESS_NAME_MAX])
{
        const struct pass *pass = arg;

        if (!pass)
                snprintf(buf, ACCESS_NAME_MAX, "none");
        else if (pass->claim.name)
                snprintf(buf, ACCESS_NAME_MAX, "certificate of %s", pass->claim.name);
        else
                snprintf(buf, ACCESS_NAME_MAX, "token of line %u", token_file_line(tokens, &pass->claim));
        return buf;
}

const struct rpc_guard_ops access_guard = {
        .admit = admit,
        .allow = allow,
        .release = release,
};
