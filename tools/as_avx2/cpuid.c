/* Answers `cpuid` for libraries whose own such instructions `tools.as_avx2` replaced by `hlt; nop`.

   `hlt` is not for programs, so it arrives here as SIGSEGV: the real cpuid is asked, every bit of AVX-512,
   VNNI and AMX is taken out, and the program goes on behind both bytes. A fault of any other kind is the
   program's own, and goes to whatever handler it asked for. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <stddef.h>
#include <ucontext.h>

typedef int (*Sigaction)(int, const struct sigaction *, struct sigaction *);

static struct sigaction theirs; /* zero is SIG_DFL */

static int real(int signal, const struct sigaction *action, struct sigaction *before) {
    static Sigaction next;
    if (next == NULL)
        next = (Sigaction)dlsym(RTLD_NEXT, "sigaction");
    return next(signal, action, before);
}

static unsigned without(unsigned value, const int *bits, int count) {
    for (int i = 0; i < count; i++)
        value &= ~(1u << bits[i]);
    return value;
}
#define WITHOUT(value, ...) \
    without(value, (const int[]){__VA_ARGS__}, (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int)))

static void answer(int signal, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *at = (const unsigned char *)registers[REG_RIP];
    unsigned a, b, c, d, leaf = (unsigned)registers[REG_RAX], part = (unsigned)registers[REG_RCX];
    if (info->si_code != SI_KERNEL || at[0] != 0xf4 || at[1] != 0x90) {
        real(signal, &theirs, NULL); /* the same instruction faults again, and theirs takes it */
        return;
    }
    __cpuid_count(leaf, part, a, b, c, d);
    if (leaf == 7 && part == 0) {
        b = WITHOUT(b, 16, 17, 21, 26, 27, 28, 30, 31); /* F DQ IFMA PF ER CD BW VL */
        c = WITHOUT(c, 1, 6, 11, 12, 14);               /* VBMI VBMI2 VNNI BITALG VPOPCNTDQ */
        d = WITHOUT(d, 2, 3, 8, 22, 23, 24, 25);        /* 4VNNIW 4FMAPS VP2INTERSECT AMX-BF16 FP16 AMX */
    } else if (leaf == 7 && part == 1) {
        a = WITHOUT(a, 4, 5, 21, 23);   /* AVX-VNNI AVX512-BF16 AMX-FP16 AVX-IFMA */
        d = WITHOUT(d, 4, 5, 8, 10, 19); /* AVX-VNNI-INT8 NE-CONVERT AMX-COMPLEX AVX-VNNI-INT16 AVX10 */
    } else if (leaf == 0x19 || leaf == 0x1d || leaf == 0x1e || leaf == 0x24) {
        a = b = c = d = 0; /* AMX tiles, AVX10 */
    }
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

int sigaction(int signal, const struct sigaction *action, struct sigaction *before) {
    if (signal != SIGSEGV)
        return real(signal, action, before);
    if (before != NULL)
        *before = theirs;
    if (action != NULL)
        theirs = *action;
    return 0;
}

__attribute__((constructor)) static void start(void) {
    struct sigaction own = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    real(SIGSEGV, &own, NULL);
}
