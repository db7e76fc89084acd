// How long threads spin while they wait for each other.
#pragma once

namespace fastkv::cli {

/// libgomp reads this from the environment before main(), and by default a thread spins for a millisecond and more. On
/// a core that another program wants, the system then takes its time from the thread that has work. So the program
/// starts itself anew, by the same arguments, with a shorter GOMP_SPINCOUNT; not where that or OMP_WAIT_POLICY is
/// given. Returns in the new program, and where the system does not let it start: then threads spin as libgomp would.
///
/// Measured with two threads on two cores (SmolLM2, FastKV, 1,000 tokens, one or two endless loops beside): 0.3 s
/// instead of 0.6 to 1.7 s to the first token with 5000; with 2000 as well, which costs decoding on free cores 8 %
/// (5000: 1 %); 20000 decodes half as fast as 5000.
void limit_spinning(char** arguments);

}  // namespace fastkv::cli
