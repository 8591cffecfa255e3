/* Reads one instruction a line, as hexadecimal bytes, and compares the decoder's length with the line's. A line may be followed by
 * what the decoder must say of it: kind, and offset of a RIP-relative operand. */
#include "agent/x86_64/decode.h"
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    char line[256];
    long n = 0, wrong = 0;
    while (fgets(line, sizeof line, stdin)) {
        uint8_t bytes[32] = {0};
        unsigned length = 0, value;
        char *p = line;
        while (length < 15 && sscanf(p, "%2x", &value) == 1 && p[0] > ' ' && p[1] > ' ') bytes[length++] = (uint8_t)value, p += 2;
        atf_x86 x;
        int got = atf_x86_decode(bytes, length, &x), kind, rip;
        int good = got == (int)length;
        if (sscanf(p, " %d %d", &kind, &rip) == 2) good = good && x.kind == kind && x.rip_at == rip;
        n++;
        if (!good && wrong++ < 20) printf("got %d kind %d rip %d: %s", got, x.kind, x.rip_at, line);
        for (unsigned room = 0; room < length; room++) /* never beyond what it was given */
            if (atf_x86_decode(bytes, room, &x) > (int)room) wrong++;
    }
    printf("%ld instructions, %ld wrong\n", n, wrong);
    return wrong != 0;
}
