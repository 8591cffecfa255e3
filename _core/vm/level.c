/* Another level while the program runs. The hooks stay as they are: a call that began keeps its end, and the depth is right at every
 * level; what changes is which records they write. The GIL guards it. See docs/overload.md for what readers make of it. */
#include "values.h"

static void set_keys(void)
{
    atf_vm.plain_key = atf_vm.returns && !atf_vm.args ? atf_vm.key : ATF_NO_KEY;
    atf_vm.exit_key = atf_vm.quiet ? ATF_NO_KEY : atf_vm.plain_key;
}

void atf_level_begin(void)
{
    atf_vm.quiet = atf_vm.was_quiet = 0;
    set_keys();
}

static const char *name_of(uint32_t level)
{
    if (level & ATF_BIT_ARGS) return level & ATF_BIT_C ? "c,args" : "args";
    return level & ATF_BIT_C ? "c" : level & ATF_BIT_RETURNS ? "returns" : "calls";
}

/* The record of the change, in each thread's own lane: what stands before it is of the level before. */
static void tell(atf_thread *t, uint32_t level)
{
    char name[32];
    int bytes = snprintf(name, sizeof name, "atf.level %s", name_of(level));
    uint64_t id = (uint64_t)ATF_LEVEL_IDS << 8 | (level & 0xFF), ticks = atf_ticks(t->clock_type);
    atf_name_put(ATF_NAME_MODULE, 0, 0, "user", 4, "", 0);
    atf_name_put(ATF_NAME_FUNCTION, id, 0, name, (size_t)bytes, "", 0);
    atf_values v;
    atf_values_start(&v);
    atf_put_map(&v, 2);
    atf_put_text(&v, "name");
    atf_put_text(&v, name);
    atf_put_text(&v, "attributes");
    atf_put_map(&v, 3);
    atf_put_text(&v, "from");
    atf_put_text(&v, name_of(t->level));
    atf_put_text(&v, "to");
    atf_put_text(&v, name_of(level));
    atf_put_text(&v, "why");
    atf_put_text(&v, "budget");
    uint32_t detail = atf_detail(t, ATF_D_EVENT, v.bytes, atf_values_size(&v), ticks);
    atf_write_at(t, ticks, ATF_INSTANT, id, t->depth, detail);
}

void atf_level_set(atf_thread *t, uint32_t level)
{
    if (!atf_vm.returns) return; /* there is nothing below */
    tell(t, level);
    atf_vm.args = !!(level & ATF_BIT_ARGS);
    atf_vm.repr = !!(level & ATF_BIT_REPR);
    atf_vm.quiet = level == ATF_LEVEL_ONLY_CALLS;
    atf_vm.was_quiet |= atf_vm.quiet;
    set_keys();
}
