// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* A TCG plugin of QEMU (docs/devel/tcg-plugins.rst): how often each translated block ran between two
 * marks, which where_marks.py sets by running code at the addresses of enum mark. It says:
 *
 *     ADDRESS INSTRUCTIONS TIMES      a block, in hexadecimal and twice decimal; many such lines
 *     end                             of a span
 *     sample                          the spans so far were of one sample
 *
 * The functions are declared here, as Debian has no qemu-plugin.h (include/qemu/qemu-plugin.h).
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))

enum mark { START = 0x13370000, END = 0x13370010, SAMPLE = 0x13370020 };

struct qemu_plugin_tb;

extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id,
						  void (*translated)(uint64_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
						 void (*runs)(unsigned int, void *), int flags,
						 void *data);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
extern void qemu_plugin_outs(const char *text);

/* Of the interface, as QEMU 10.0 has it. */
EXPORT int qemu_plugin_version = 4;

struct block {
	struct block *next;
	uint64_t address, instructions, times;
};

/* One CPU under -icount, so one thread. */
static struct block *blocks;

static void forget(void)
{
	for (struct block *b = blocks; b; b = b->next)
		b->times = 0;
}

static void tell(void)
{
	char line[80];

	for (struct block *b = blocks; b; b = b->next) {
		if (!b->times)
			continue;
		snprintf(line, sizeof(line), "%" PRIx64 " %" PRIu64 " %" PRIu64 "\n", b->address,
			 b->instructions, b->times);
		qemu_plugin_outs(line);
	}
	qemu_plugin_outs("end\n");
}

static void marked(unsigned int cpu, void *address)
{
	(void)cpu;
	switch ((uintptr_t)address) {
	case START:
		forget();
		break;
	case END:
		tell();
		break;
	case SAMPLE:
		qemu_plugin_outs("sample\n");
		break;
	}
}

static void run(unsigned int cpu, void *block)
{
	(void)cpu;
	((struct block *)block)->times++;
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
	uint64_t address = qemu_plugin_tb_vaddr(tb);
	struct block *block;

	(void)id;
	if (address == START || address == END || address == SAMPLE) {
		qemu_plugin_register_vcpu_tb_exec_cb(tb, marked, 0, (void *)(uintptr_t)address);
		return;
	}
	block = calloc(1, sizeof(*block));
	if (!block)
		abort();
	block->address = address;
	block->instructions = qemu_plugin_tb_n_insns(tb);
	block->next = blocks;
	blocks = block;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, run, 0, block);
}

EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	(void)info;
	(void)argc;
	(void)argv;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
