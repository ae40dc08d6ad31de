#include "cli/command.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>

#include "base/clock.h"
#include "base/io.h"
#include "cache/store.h"
#include "cli/doctor.h"
#include "cli/mounts.h"
#include "cli/scrub.h"
#include "fs/control.h"
#include "fs/feature.h"
#include "fs/mount_settings.h"

#define FILE_MAX ((size_t)4 << 20)
#define ETC      "/etc/fsyncfs"

/* What goes into one report. */
struct report {
        struct archive *archive; /* owned */
        char folder[80];         /* in the archive */
        time_t now;
        bool failed;
};

/* ---- one file of it ---- */

static bool write_entry(struct report *r, const char *name, const struct buffer *text)
{
        struct archive_entry *e = archive_entry_new();
        char path[PATH_MAX];
        bool ok;

        if (!e)
                return false;
        snprintf(path, sizeof(path), "%s/%s", r->folder, name);
        archive_entry_copy_pathname(e, path);
        archive_entry_set_filetype(e, AE_IFREG);
        archive_entry_set_perm(e, 0600);
        archive_entry_set_mtime(e, r->now, 0);
        archive_entry_set_size(e, (la_int64_t)text->len);
        ok = archive_write_header(r->archive, e) >= ARCHIVE_WARN &&
             (text->len == 0 ||
              archive_write_data(r->archive, text->data, text->len) == (la_ssize_t)text->len);
        archive_entry_free(e);
        return ok;
}

/* Everything that goes in passes here. */
static void add(struct report *r, const char *name, const char *text, size_t len)
{
        _cleanup_buffer_ struct buffer clean = { 0 };
        char size[32];

        if (scrub(text, len, &clean) < 0 || !write_entry(r, name, &clean)) {
                r->failed = true;
                return;
        }
        printf("  %-40s %s\n", name, format_bytes(clean.len, size));
}

static void add_text(struct report *r, const char *name, const char *text)
{
        add(r, name, text, strlen(text));
}

static void add_json(struct report *r, const char *name, const json_t *value)
{
        _cleanup_free_ char *text = value ? json_dumps(value, JSON_INDENT(2)) : NULL;

        if (text)
                add_text(r, name, text);
}

/* A file of the system's, if it can be read. */
static void add_file(struct report *r, const char *name, const char *path)
{
        _cleanup_buffer_ struct buffer text = { 0 };

        if (io_read_file(AT_FDCWD, path, FILE_MAX, &text) == 0 && text.data)
                add(r, name, text.data, text.len);
}

/* What COMMAND, a constant, prints; nothing if it fails or prints nothing. True: something came. */
static bool add_output(struct report *r, const char *name, const char *command)
{
        _cleanup_buffer_ struct buffer text = { 0 };
        FILE *f = popen(command, "re");
        int result = f ? io_read_to_end(fileno(f), FILE_MAX, &text) : -errno;

        if (f)
                pclose(f);
        if (result < 0 || text.len == 0)
                return false;
        add(r, name, text.data, text.len);
        return true;
}

/* ---- what is collected ---- */

static void add_versions(struct report *r)
{
        _cleanup_buffer_ struct buffer text = { 0 };
        struct utsname u;

        uname(&u);
        if (buffer_printf(&text, "fsyncfs %s\nlibfuse %s\n%s %s %s %s\n", FSYNCFS_VERSION,
                          feature_libfuse_version(), u.sysname, u.release, u.version, u.machine) == 0)
                add(r, "versions.txt", text.data, text.len);
        add_file(r, "os-release", "/etc/os-release");
        add_file(r, "proc-mountinfo", "/proc/self/mountinfo");
        add_file(r, "proc-meminfo", "/proc/meminfo");
}

static void add_checks(struct report *r, struct mount_options *options)
{
        struct doctor doctor;

        doctor_look(&doctor, &(struct doctor_options){ .mount = options });
        add_json(r, "doctor.json", doctor.checks);
        json_decref(doctor.checks);
}

static void add_fault(void *arg, const char *fault)
{
        fprintf(arg, "# %s\n", fault);
}

/* What a mount that says nothing itself would have, with what is wrong about it, and how the machine looks to it. */
static void add_settings(struct report *r)
{
        const struct mount_call call = { .list = "", .check = true };
        struct mount_settings settings;
        struct mount_options options;
        struct failure failure = { 0 };
        _cleanup_free_ char *text = NULL;
        size_t len;
        FILE *f;

        if (mount_options_init(&options) < 0)
                return;
        f = open_memstream(&text, &len);
        if (f) {
                fputs("[mount]\n", f);
                (void)mount_settings_read(&options, &call, add_fault, f, &settings);
                settings_print(&settings.settings, f);
                mount_settings_release(&settings);
                if (mount_options_finish(&options, &failure) < 0)
                        add_fault(f, failure.text);
        }
        if (f && fclose(f) == 0)
                add(r, "settings.conf", text, len);
        add_checks(r, &options);
        mount_options_release(&options);
}

/* The last of what daemons and masters said: the journal, or where syslog writes. */
static void add_log(struct report *r)
{
        if (add_output(r, "journal.log",
                       "journalctl --no-pager -q -n 3000 -t fsyncfs -t mount.fsyncfs -t fsyncfs-server "
                       "2>/dev/null"))
                return;
        (void)add_output(r, "syslog.log",
                         "cat /var/log/syslog /var/log/daemon.log /var/log/messages 2>/dev/null |"
                         " grep -a fsyncfs | tail -n 3000");
}

static void add_fstab(struct report *r)
{
        (void)add_output(r, "fstab", "grep -s fsyncfs /etc/fstab");
}

/* Names alone: tokens and keys lie here. What ends in .conf is read. */
static void add_configuration(struct report *r)
{
        _cleanup_buffer_ struct buffer listing = { 0 };
        DIR *dir = opendir(ETC);
        const struct dirent *e;
        struct stat st;

        while (dir && (e = readdir(dir))) {
                const char *end = strrchr(e->d_name, '.');
                char path[PATH_MAX], name[300];

                if (e->d_name[0] == '.' || fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        continue;
                (void)buffer_printf(&listing, "%o %ld %s\n", st.st_mode, (long)st.st_size, e->d_name);
                snprintf(path, sizeof(path), ETC "/%s", e->d_name);
                snprintf(name, sizeof(name), "etc/%s", e->d_name);
                if (end && strcmp(end, ".conf") == 0 && S_ISREG(st.st_mode))
                        add_file(r, name, path);
        }
        if (dir)
                closedir(dir);
        if (listing.len > 0)
                add(r, "etc/names.txt", listing.data, listing.len);
}

static void add_cache(struct report *r, const char *dir, const char *prefix)
{
        struct store_stats stats;
        struct store *store;
        char name[64];
        json_t *object;

        if (access(dir, F_OK) < 0 || store_open(dir, &store) < 0)
                return;
        snprintf(name, sizeof(name), "%s/cache.json", prefix);
        if (store_stat(store, &stats) == 0) {
                object = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "cache_dir", dir, "blobs",
                                   (json_int_t)stats.blobs, "blob_bytes", (json_int_t)stats.blob_bytes,
                                   "partials", (json_int_t)stats.partials, "partial_bytes",
                                   (json_int_t)stats.partial_bytes, "quarantined",
                                   (json_int_t)stats.quarantined, "pinned", (json_int_t)stats.pinned);
                add_json(r, name, object);
                json_decref(object);
        }
        store_free(store);
}

static void add_process(struct report *r, json_int_t pid, const char *prefix)
{
        static const char *const files[] = { "status", "limits", "cgroup", "io", "smaps_rollup" };
        char path[64], name[64];

        for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
                snprintf(path, sizeof(path), "/proc/%lld/%s", (long long)pid, files[i]);
                snprintf(name, sizeof(name), "%s/proc-%s", prefix, files[i]);
                add_file(r, name, path);
        }
}

static void add_mount(struct report *r, const char *target, size_t number)
{
        static const char *const questions[] = { "status", "counters", "progress" };
        struct failure failure = { 0 };
        char prefix[32], name[64];

        snprintf(prefix, sizeof(prefix), "mount%lu", (unsigned long)number);
        for (size_t i = 0; i < ARRAY_SIZE(questions); i++) {
                json_t *reply;
                const char *cache;
                int result = control_ask(target, questions[i], &reply, &failure);

                snprintf(name, sizeof(name), "%s/%s.%s", prefix, questions[i], result < 0 ? "txt" : "json");
                if (result < 0) {
                        add_text(r, name, failure_text(&failure, result));
                        break; /* a daemon that is stopped would be waited for each time */
                }
                add_json(r, name, reply);
                cache = json_string_value(json_object_get(reply, "cache_dir"));
                if (cache) {
                        add_process(r, json_integer_value(json_object_get(reply, "pid")), prefix);
                        add_cache(r, cache, prefix);
                }
                json_decref(reply);
        }
}

static void collect(struct report *r, const struct mounts *mounts)
{
        add_versions(r);
        add_settings(r);
        for (size_t i = 0; i < mounts->n; i++)
                add_mount(r, mounts->targets[i], i + 1);
        add_fstab(r);
        add_configuration(r);
        add_log(r);
}

/* ---- the command ---- */

static int write_report(const char *file, const struct mounts *mounts)
{
        struct report r = { .now = time(NULL), .archive = archive_write_new() };
        int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        if (fd < 0 || !r.archive) {
                fprintf(stderr, "fsyncfs: cannot make '%s': %s\n", file, strerror(fd < 0 ? errno : ENOMEM));
                archive_write_free(r.archive);
                cleanup_close(&fd);
                return 1;
        }
        snprintf(r.folder, sizeof(r.folder), "fsyncfs-bugreport-%lld", (long long)r.now);
        archive_write_set_format_pax_restricted(r.archive);
        archive_write_add_filter_gzip(r.archive);
        r.failed = archive_write_open_fd(r.archive, fd) != ARCHIVE_OK;
        printf("%s:\n", file);
        if (!r.failed)
                collect(&r, mounts);
        r.failed = archive_write_close(r.archive) != ARCHIVE_OK || r.failed;
        archive_write_free(r.archive);
        if (close(fd) < 0 || r.failed) {
                fprintf(stderr, "fsyncfs: '%s' is not whole: the disk may be full\n", file);
                return 1;
        }
        puts("Names of hosts, files and users are in it: look before you send it.");
        return 0;
}

static void default_name(char buf[64])
{
        time_t now = time(NULL);
        struct tm tm = { 0 };

        localtime_r(&now, &tm);
        strftime(buf, 64, "fsyncfs-bugreport-%Y%m%d-%H%M%S.tar.gz", &tm);
}

int command_bugreport(int argc, char **argv)
{
        const char *file = NULL;
        struct mounts mounts;
        char name[64];
        int opt, result;

        while ((opt = getopt(argc, argv, "o:")) == 'o')
                file = optarg;
        if (opt != -1 || argc - optind > 1)
                return command_usage("bugreport");
        default_name(name);
        if (mounts_get(argv[optind], &mounts) < 0)
                return 1;
        result = write_report(file ?: name, &mounts);
        mounts_release(&mounts);
        return result;
}
