/* Callbacks for Frida's Interceptor: one pair that does nothing, and one that counts, for the proof that it was there. */
long atf_perf_entered, atf_perf_left;
void nothing(void *context) { (void)context; }
void entered(void *context) { (void)context; __atomic_fetch_add(&atf_perf_entered, 1, __ATOMIC_RELAXED); }
void left(void *context) { (void)context; __atomic_fetch_add(&atf_perf_left, 1, __ATOMIC_RELAXED); }
