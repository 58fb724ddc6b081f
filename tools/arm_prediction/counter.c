/* A plugin for qemu-aarch64 (API version 1): which blocks of instructions a program's first thread ran, how often.
 *
 * Counting is switched on and off by sched_yield. While it is on, every clock_gettime ends a section, as onnxruntime's
 * profile reads the clock before and after each operator. Argument: out=FILE, which receives lines of text:
 *
 *     B 17 a9bc7bfd910003fd   block 17 has these instructions (once, before its first count)
 *     C 17 4520004            it ran so often in this section
 *     S                       the section ends at a reading of the clock
 *     E                       the section ends, and counting with it
 *
 * Only what is used of qemu-plugin.h is declared here: Debian ships no such header.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
enum { NO_REGISTERS = 0, CLOCK_GETTIME = 113, SCHED_YIELD = 124, FIRST_THREAD = 0 };

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*on_translation)(plugin_id, struct qemu_plugin_tb *);
typedef void (*on_execution)(unsigned, void *);
typedef void (*on_system_call)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                               uint64_t, uint64_t, uint64_t);
typedef void (*at_end)(plugin_id, void *);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, on_translation);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, on_execution, int, void *);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, on_system_call);
void qemu_plugin_register_atexit_cb(plugin_id, at_end, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);

EXPORT int qemu_plugin_version = 1;

struct block {
    uint64_t runs, told_runs;
    size_t length;
    bool told;
    uint32_t words[];
};

static struct block **blocks;
static size_t known, room;
static FILE *out;
static bool counting;

static void *checked(void *memory) {
    if (!memory) {
        fputs("counter: out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

static void executed(unsigned thread, void *block) {
    if (thread == FIRST_THREAD) ((struct block *)block)->runs++;
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb) {
    (void)id;
    size_t length = qemu_plugin_tb_n_insns(tb);
    struct block *block = checked(calloc(1, sizeof *block + 4 * length));
    block->length = length;
    for (size_t i = 0; i < length; i++) memcpy(&block->words[i], qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), 4);
    if (known == room) {
        room = room ? 2 * room : 4096;
        blocks = checked(realloc(blocks, room * sizeof *blocks));
    }
    blocks[known++] = block;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, NO_REGISTERS, block);
}

static void tell(size_t number) {
    struct block *block = blocks[number];
    if (!block->told) {
        block->told = true;
        fprintf(out, "B %zu ", number);
        for (size_t i = 0; i < block->length; i++) fprintf(out, "%08" PRIx32, block->words[i]);
        fputc('\n', out);
    }
    fprintf(out, "C %zu %" PRIu64 "\n", number, block->runs - block->told_runs);
}

static void end_section(const char *how) {
    for (size_t i = 0; i < known; i++) {
        if (counting && blocks[i]->runs != blocks[i]->told_runs) tell(i);
        blocks[i]->told_runs = blocks[i]->runs;
    }
    if (counting) fprintf(out, "%s\n", how);
}

static void called(plugin_id id, unsigned thread, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    (void)id, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (thread != FIRST_THREAD) return;
    if (number == SCHED_YIELD) {
        end_section("E");
        counting = !counting;
    } else if (number == CLOCK_GETTIME && counting) {
        end_section("S");
    }
}

static void ended(plugin_id id, void *data) {
    (void)id, (void)data;
    fclose(out);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) || !(out = fopen(argv[0] + 4, "w"))) {
        fputs("counter: needs out=FILE, a file that can be written\n", stderr);
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
