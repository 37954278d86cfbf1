/* A library to be preloaded: the processor says that it is another one, with nothing newer than AVX2.
 *
 * DISGUISE=506E3 is the signature of an Intel processor, as CPUID gives it in EAX of leaf 1; DISGUISE=AMD:A20F10 one of AMD's.
 * Linux has CPUID fault in this process (arch_prctl(2), ARCH_SET_CPUID), and the handler of the fault answers. What runs is not
 * emulated: its speed is the machine's, as are its caches and the rounding of its instructions.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012

enum { BASIC = 0, SIGNATURE = 1, FEATURES = 7, KEY_LOCKER = 0x19, TILES = 0x1d, TILE_PRODUCTS = 0x1e, AVX10 = 0x24 };
/* EBX of leaf 7 with FSGSBASE, BMI1, AVX2, SMEP, BMI2, ERMS, INVPCID, RDSEED, ADX and CLFLUSHOPT: what a Skylake of desktops has */
static const unsigned HASWELL_AND_SKYLAKE =
    1u << 0 | 1u << 3 | 1u << 5 | 1u << 7 | 1u << 8 | 1u << 9 | 1u << 10 | 1u << 18 | 1u << 19 | 1u << 23;

static unsigned signature;
static int amd;

static int let_cpuid_fault(int fault)
{
    return syscall(SYS_arch_prctl, ARCH_SET_CPUID, !fault);
}

static void answer(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *instruction = (const unsigned char *)registers[REG_RIP];
    if (instruction[0] != 0x0f || instruction[1] != 0xa2) { /* a fault of its own */
        signal(SIGSEGV, SIG_DFL);
        return;
    }
    const unsigned leaf = registers[REG_RAX], part = registers[REG_RCX];
    unsigned a = leaf, b, c = part, d;
    let_cpuid_fault(0);
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    let_cpuid_fault(1);
    if (leaf == BASIC && amd) {
        a = 0x10;
        memcpy(&b, "Auth", 4);
        memcpy(&d, "enti", 4);
        memcpy(&c, "cAMD", 4);
    } else if (leaf == SIGNATURE) {
        a = signature;
    } else if (leaf == FEATURES && part == 0) {
        a = c = d = 0;
        b &= HASWELL_AND_SKYLAKE;
    } else if (leaf == FEATURES || leaf == KEY_LOCKER || leaf == TILES || leaf == TILE_PRODUCTS || leaf == AVX10) {
        a = b = c = d = 0;
    }
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void put_on(void)
{
    const char *wanted = getenv("DISGUISE");
    if (wanted == NULL)
        return;
    amd = strncmp(wanted, "AMD:", 4) == 0;
    signature = strtoul(amd ? wanted + 4 : wanted, NULL, 16);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = answer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, NULL);
    if (let_cpuid_fault(1) != 0)
        _exit(70); /* EX_SOFTWARE: neither the system nor the processor can */
}
