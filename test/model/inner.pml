/*-------------------------------------------------------------------------
 *
 * inner.pml
 *	  The model of commands that work inside a holding.
 *
 * A run holds the lock of a workspace, by "tfstate run" for example, and starts
 * Terraforms.  Each looks for a holding of its run (tfstate_shim_lock()).  If there is
 * one, it takes the inner lock of that holding, which is named by the holding's fence, and
 * leaves the holding itself alone.  It writes only while the holding is its run's (the
 * guard), and releases the inner lock.  The holding can be lost at any time, to another
 * run for example; and a run that has released or lost it may take it anew while a
 * Terraform of before still runs.
 *
 * That the inner lock excludes is the subject of lock.pml, so here taking it is one step.
 *
 * Promises: two Terraforms are never inside one holding at once; nobody writes but under
 * the holding of its own run; a Terraform never ends the holding that it works in.
 *
 * BUG_NO_INNER, BUG_ENDS_HOLDING and BUG_TRUSTS_LOOK are deliberate bugs, each of which
 * breaks a promise.
 *
 *-------------------------------------------------------------------------
 */

#define FENCES		4			/* how often the lock is taken */
#define TERRAFORMS	2
#define NONE		0
#define MY_RUN		1
#define OTHER_RUN	2

byte held = NONE;				/* the fence of the holding; NONE if the lock is free */
byte holder = NONE;				/* whose run that is */
byte last_fence = NONE;
byte inner[FENCES + 1];			/* per fence: which Terraform has the inner lock */
byte inside[FENCES + 1];		/* per fence: how many Terraforms write under it */

inline take(who)
{
	atomic {
		held == NONE && last_fence < FENCES;
		last_fence++;
		held = last_fence;
		holder = who
	}
}

/* tfstate run: takes the lock, and releases it in the end unless it was lost. */
proctype Run(byte who)
{
	byte fence;

	do
	:: take(who);
		fence = last_fence;
		atomic {
			if
			:: held == fence -> held = NONE; holder = NONE	/* released */
			:: held != fence -> skip						/* lost */
			fi
		}
	:: last_fence == FENCES -> break
	:: break
	od
}

/* An administrator's force-unlock, or a lease that has expired. */
proctype Administrator()
{
	do
	:: atomic { held != NONE -> held = NONE; holder = NONE }
	:: break
	od
}

/* A Terraform that a run has started. */
proctype Terraform(byte me)
{
	byte outer;
	bool stays = true;

	/* look for a holding of its run; without one it takes the lock itself (lock.pml) */
endlook:
	if
	:: atomic { held != NONE && holder == MY_RUN -> outer = held }
	:: last_fence == FENCES -> goto done
	fi;
#ifndef BUG_NO_INNER
	atomic {
		if
		:: inner[outer] == NONE -> inner[outer] = me
		:: inner[outer] != NONE -> goto done	/* a conflict, which names the other */
		fi
	}
#endif
	inside[outer]++;
	assert(inside[outer] == 1);
	do
	:: atomic {
			/* the guard looks at each write */
#ifdef BUG_TRUSTS_LOOK
			true ->
#else
			held != NONE && holder == MY_RUN ->
#endif
			assert(holder == MY_RUN)
		}
	:: break
	od;
	inside[outer]--;
	atomic {
#ifndef BUG_NO_INNER
		inner[outer] = NONE;
#endif
#ifdef BUG_ENDS_HOLDING
		if
		:: held == outer -> held = NONE; holder = NONE; stays = false
		:: else -> skip
		fi;
#endif
		assert(stays)
	}
done:
	skip
}

init
{
	atomic {
		run Run(MY_RUN);
		run Run(OTHER_RUN);
		run Administrator();
		run Terraform(1);
		run Terraform(2)
	}
}
