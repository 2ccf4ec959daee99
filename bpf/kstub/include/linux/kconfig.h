/* What bcc's helpers.h asks of a kernel's configuration. */
#ifndef TABARD_KSTUB_KCONFIG_H
#define TABARD_KSTUB_KCONFIG_H
#define CONFIG_BPF_SYSCALL 1
#endif
