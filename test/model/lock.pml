/*-------------------------------------------------------------------------
 *
 * lock.pml
 *	  A model of the lock protocol, for the model checker spin.
 *
 * One lockid, three sessions that lock, wait, renew, unlock and force-unlock it
 * in transactions that commit, fail to commit, roll back and are prepared;
 * sessions that end, are terminated or discard their tags; crashes.  spin looks
 * at every state that these can get into in any order of their steps.
 * test/model.sh has it do so.
 *
 * Each inline is named after the function of the C code that it stands for.
 * What one look at or change of shared memory does is one step (atomic); the
 * server's own parts (the queue of the lock manager, the visibility of rows, the
 * order in which a commit becomes durable and visible and gives back its tags)
 * are modelled as they work.  Nothing counts: a run can be of any length.
 *
 * Checked in every state that can be reached:
 *
 *	exclusion		when a taking becomes visible, no holding is in force, and there
 *					are never two rows (make_visible)
 *	living sessions	are not taken for dead (is_held)
 *	nothing lost	an acknowledged durable lock is not lost by a crash: its row is
 *					missing in no later look (make_visible)
 *	fences			grow in the order of the holdings, over crashes too (take)
 *	nothing left	who is outside of a transaction has K if and only if he has the
 *					lock in session mode, and never W (Session)
 *	wake-ups		nobody sleeps, not woken and not about to be, while the lock is
 *					free (Monitor)
 *	first come,		of those who wait for K and stay, the first takes the lock (take)
 *	first served
 *	no deadlock		spin's own check of end states
 *	served			who waits gets the lock or gives up: the formula at the end,
 *					without any poll, for sessions that release what they have
 *
 * Four wake-ups can be lost, and are what the poll of the first waiter is for: that
 * of COMMIT PREPARED, which sends none; a lease that expires; one that is eaten
 * by the wait for W; and the end of a transaction that force-unlocks what a dead
 * session left, if it began between the waiter's look at the row and his attempt
 * to delete it.  The model excuses them where they happen.
 *
 * Left out: savepoints, the adoption of a run's lock, the built-in lock of a
 * workspace, hash collisions, and time: whatever has a timeout may run into it
 * at any moment.
 *
 * What is to be explored is chosen by macros, all 0 by default.  With one of
 * the BUG_ macros the model has that bug.
 *
 *-------------------------------------------------------------------------
 */

#ifndef SESSIONS
#define SESSIONS	3
#endif
#ifndef OPERATIONS
#define OPERATIONS	1			/* of a transaction */
#endif
#ifndef SESSION_MODE
#define SESSION_MODE	0		/* locks in session mode */
#endif
#ifndef DURABLE_MODE
#define DURABLE_MODE	0		/* durable locks */
#endif
#ifndef LEASES
#define LEASES		0			/* durable locks have a ttl, expire and are renewed */
#endif
#ifndef CANCELS
#define CANCELS		0			/* commits fail, waits are cancelled or time out */
#endif
#ifndef ENDS
#define ENDS		0			/* sessions end, whatever they hold */
#endif
#ifndef DISCARDS
#define DISCARDS	0			/* pg_advisory_unlock_all() */
#endif
#ifndef FORCES
#define FORCES		0			/* tfstate_force_unlock() */
#endif
#ifndef PREPARES
#define PREPARES	0			/* PREPARE TRANSACTION */
#endif
#ifndef CRASHES
#define CRASHES		0			/* of the server, and failovers */
#endif
#ifndef POLLS
#define POLLS		0			/* the first waiter looks again each second */
#endif

#define PREPARED	(SESSIONS + 1)	/* stands for the session of a prepared transaction */
#define PROCS		(SESSIONS + 2)
#define NOBODY		0
#define NONE		2				/* no row */

/*
 * Shared memory: the tags.  K has an owner, who has it a number of times at
 * transaction level and at session level, and a queue.  W has an owner.  S and
 * the lock on a transaction's number need no variables of their own: what
 * names them is changed when they end, as neither number is ever used again.
 */
byte k_owner, k_xact, k_session;
chan k_queue = [SESSIONS] of { byte };
byte w_owner;
byte awaited[PROCS];		/* the transaction that somebody has seen changing a row */

bit latch[PROCS];
bit terminated[PROCS];		/* has got SIGTERM */

/*
 * The rows of both tables.  An inserter or changer is whose transaction is not
 * yet committed.  session is 0 once the session is gone: then its number is
 * nobody's.
 */
mtype = { UNCHANGED, RELEASED, CLEARED, RENEWED };

typedef Row
{
	byte who;				/* took the lock; NOBODY: no row */
	byte session;
	bit durable;
	bit lease;
	bit expired;
	byte inserter;
	byte changer;
	mtype change = UNCHANGED;
};
Row row[2];
bit unchanged[PROCS];		/* is the row that somebody has read still that version? */

/* What is on disk. */
bit committing[PROCS];		/* the commit may have been flushed, and is not visible */
byte unflushed_unlock;		/* who had the durable lock, or NOBODY */
bit unflushed_lease;
bit unflushed_lock;			/* that of the durable row */
bit unflushed_fence;		/* one that was given out */

mtype = { NO_TRANSACTION, OPEN, ENDING };
mtype prepared = NO_TRANSACTION;

bit crashed[PROCS];

/* What is only looked at by the checks. */
byte holder;				/* whose holding is in force */
bit holder_is_session;
bit fence_repeats;
bit drawn[PROCS];			/* has a fence that is not committed */
bit passed[PROCS];			/* and somebody has committed a later one */
byte later[PROCS];			/* who drew his before that one's: a bit each */
bit asleep[PROCS];			/* on the latch */
bit excused[PROCS];			/* a wake-up that is known to be lost */
byte waking;				/* how many are about to wake who has K */
chan arrived = [SESSIONS] of { byte };	/* who waits, in the order of arrival */

#define BIT(x)			(1 << (x))
/* For the formula, who has the lock does nothing but release it. */
#ifdef SERVED
#define MAY_LOCK		(row[0].who != me && row[1].who != me)
#else
#define MAY_LOCK		true
#endif

#define HAS_KEY			(k_owner == me)
#define QUEUED			(k_queue ?? [eval(me)])
#define COMMITTED(r)	(row[r].who != NOBODY && row[r].inserter == NOBODY)
#define VISIBLE(r)		(row[r].who != NOBODY && \
						 (row[r].inserter == NOBODY || row[r].inserter == me) && \
						 (row[r].changer != me || row[r].change == RENEWED))
#define OTHER_CHANGES(r)	(row[r].changer != NOBODY && row[r].changer != me)
#define ALIVE(r)		(row[r].session != 0)

/*
 * The server: tags
 */

/* LockRelease() of K when a count has changed: the first of the queue has it. */
inline LockRelease()
{
	if
	:: k_xact + k_session == 0 && len(k_queue) > 0 ->
		k_queue ? k_owner;
		k_xact = 1
	:: k_xact + k_session == 0 && len(k_queue) == 0 ->
		k_owner = NOBODY
	:: else
	fi
}

/* The lock on the number of x's transaction ends. */
inline end_transaction(x)
{
	p = 1;
	do
	:: p < PROCS && awaited[p] == x -> awaited[p] = NOBODY; p++
	:: p < PROCS && awaited[p] != x -> p++
	:: else -> break
	od;
	p = 0
}

/* Who has read a row has an old version now. */
inline new_version()
{
	p = 1;
	do
	:: p < PROCS -> unchanged[p] = 0; p++
	:: else -> break
	od;
	p = 0
}

/*
 * The server: rows
 */

inline delete_row(r)
{
	row[r].who = NOBODY; row[r].session = 0; row[r].durable = 0; row[r].lease = 0;
	row[r].expired = 0; row[r].inserter = NOBODY; row[r].changer = NOBODY;
	row[r].change = UNCHANGED
}

/* The changes of x's transaction to a row become visible. */
inline make_row_visible(x, r)
{
	if
	:: row[r].changer == x && row[r].change == RENEWED ->
		assert(row[r].inserter == x || holder == NOBODY || holder == row[r].who);
		holder = (row[r].inserter == x -> holder : row[r].who);
		row[r].expired = 0;
		row[r].changer = NOBODY;
		row[r].change = UNCHANGED;
		new_version()
	:: row[r].changer == x && row[r].change != RENEWED ->
		if
		:: row[r].change == RELEASED && row[r].inserter == NOBODY ->
			assert(row[r].durable || !ALIVE(r) || row[r].session == x);
			holder = NOBODY;
			holder_is_session = 0;
			if
			:: CRASHES && row[r].durable ->
				unflushed_unlock = row[r].who;
				unflushed_lease = row[r].lease
			:: else
			fi
		:: else
		fi;
		delete_row(r);
		new_version()
	:: else
	fi
}

/* A taking by x becomes visible.  It is in force unless its session is gone. */
inline make_taking_visible(x, r)
{
	if
	:: row[r].who != NOBODY && row[r].inserter == x ->
		row[r].inserter = NOBODY;
		assert(!passed[x]);
		p = 1;
		do
		:: p < PROCS -> passed[p] = passed[p] || (drawn[p] && (later[x] & BIT(p))); p++
		:: else -> break
		od;
		p = 0;
		if
		:: row[r].durable || ALIVE(r) ->
			assert(holder == NOBODY);
			holder = row[r].who;
			holder_is_session = !row[r].durable
		:: else
		fi;
		if
		:: row[r].durable ->
			unflushed_unlock = NOBODY;
			unflushed_lease = 0;
#ifdef BUG_NO_SYNC
			unflushed_lock = 1
#endif
		:: else
		fi
	:: else
	fi
}

/* x's transaction is forgotten by the checks of fences. */
inline forget_fence(x)
{
	drawn[x] = 0; passed[x] = 0; later[x] = 0
}

/* All changes of x's transaction become visible. */
inline make_visible(x)
{
	make_row_visible(x, 0);
	make_row_visible(x, 1);
	make_taking_visible(x, 0);
	make_taking_visible(x, 1);
	forget_fence(x);
	assert(!(COMMITTED(0) && COMMITTED(1)))
}

inline undo_row(x, r)
{
	if
	:: row[r].who != NOBODY && row[r].inserter == x -> delete_row(r)
	:: row[r].inserter != x && row[r].changer == x ->
		row[r].changer = NOBODY; row[r].change = UNCHANGED
	:: else
	fi
}

/* None of x's transaction ever will. */
inline undo(x)
{
	undo_row(x, 0);
	undo_row(x, 1);
	forget_fence(x)
}

/*
 * session.c
 */

/* S of a session ends. */
inline end_number()
{
#ifndef BUG_OWNER_BY_PID
	if
	:: row[0].session == me -> row[0].session = 0
	:: else
	fi;
	if
	:: row[1].session == me -> row[1].session = 0
	:: else
	fi
#endif
	skip
}

/* The tags of the session go: K and S one after the other. */
inline release_session_tags()
{
	atomic {
		if
		:: holder == me && holder_is_session -> holder = NOBODY; holder_is_session = 0
		:: else
		fi;
		if
		:: true -> end_number(); first = 1
		:: HAS_KEY && k_session > 0 -> k_session = 0; LockRelease()
		fi
	}
	atomic {
		if
		:: first && HAS_KEY && k_session > 0 -> k_session = 0; LockRelease()
		:: first && !(HAS_KEY && k_session > 0)
		:: !first -> end_number()
		fi;
		first = 0
	}
}

/*
 * holding.c and lookup.c
 */

/* Who is deleting or updating the row that was read? */
inline changing_transaction()
{
	if
	:: unchanged[me] && OTHER_CHANGES(seen) -> awaited[me] = row[seen].changer; changing = 1
	:: else -> awaited[me] = NOBODY; changing = 0
	fi
}

/* As a new snapshot sees it. */
inline tfstate_find_holding()
{
	if
	:: VISIBLE(0) -> seen = 0; unchanged[me] = 1
	:: !VISIBLE(0) && VISIBLE(1) -> seen = 1; unchanged[me] = 1
	:: else -> seen = NONE; unchanged[me] = 0
	fi
}

/*
 * tfstate_delete_holding() and tfstate_update_holding(), with wait.  done says
 * whether the row was what had been read; where it is not, look again.
 */
inline change_holding(how)
{
	do
	:: atomic {
		if
		:: !unchanged[me] -> break
		:: unchanged[me] && OTHER_CHANGES(seen) -> awaited[me] = row[seen].changer
		:: unchanged[me] && !OTHER_CHANGES(seen) ->
			row[seen].changer = me;
			row[seen].change = how;
			done = 1;
			break
		fi
		}
		if
		:: awaited[me] == NOBODY
		:: atomic { (CANCELS || terminated[me] || k_queue ?? [eval(awaited[me])]) &&
			awaited[me] != NOBODY -> goto abort }
		fi
	od
}

/*
 * What a call leaves in its variables is put back, so that states are the same
 * whatever led to them.
 */
inline forget_row()
{
	unchanged[me] = 0; seen = NONE; abandoned = 0
}

inline forget_call()
{
	forget_row();
	durable = 0; wait = 0; force = 0; had_key = 0; own = 0; changing = 0; late = 0; done = 0; live = 0;
	barged = 0; latch[me] = 0; awaited[me] = NOBODY; excused[me] = 0
}

/*
 * wait.c
 */

inline tfstate_try_tag()
{
	if
	:: HAS_KEY -> k_xact++
	:: k_owner == NOBODY -> k_owner = me; k_xact = 1
	:: else
	fi
}

inline tfstate_release_tag()
{
	k_xact--;
	LockRelease()
}

inline leave()
{
	if
	:: arrived ?? [eval(me)] -> arrived ?? eval(me)
	:: else
	fi
}

/* The wait for K ends with K, in time or not, or without it, or with an error. */
inline tfstate_wait_tag()
{
	if
	:: atomic { HAS_KEY -> goto have_key }
	:: atomic { CANCELS && HAS_KEY -> tfstate_release_tag(); leave() }
	:: atomic { CANCELS && QUEUED -> k_queue ?? eval(me); leave() }
	:: atomic { (CANCELS || terminated[me] || awaited[k_owner] == me) && QUEUED ->
		k_queue ?? eval(me); leave(); goto abort }
	fi;
	atomic {
		tfstate_try_tag();
		if
		:: HAS_KEY -> late = 1; goto have_key
		:: else -> forget_call(); goto idle
		fi
	}
}

inline wake_up()
{
	asleep[me] = 0; excused[me] = 0; w_owner = NOBODY
}

inline sleep_on_latch()
{
	asleep[me] = 1;
	if
	:: atomic { latch[me] -> wake_up() }
	:: atomic { POLLS -> wake_up() }
	:: atomic { CANCELS -> wake_up(); late = 1 }
	:: atomic { CANCELS || terminated[me] -> goto abort }
	fi
}

/*
 * With K, until the row may have changed.  A wait for W eats what the latch was
 * set for.
 */
inline tfstate_wait_as_first()
{
	if
	:: atomic { w_owner == NOBODY -> w_owner = me }
	:: atomic { w_owner != NOBODY -> blocked = 1 };
		atomic {
			w_owner == NOBODY ->
			w_owner = me;
			blocked = 0;
			if
			:: latch[me] -> latch[me] = 0; excused[me] = 1
			:: else
			fi
		}
	fi;
	if
	:: atomic { changing && awaited[me] == NOBODY -> w_owner = NOBODY; changing = 0 }
	:: atomic { changing && awaited[me] != NOBODY && CANCELS ->
		w_owner = NOBODY; changing = 0; late = 1; awaited[me] = NOBODY }
	:: atomic { changing && awaited[me] != NOBODY &&
		(CANCELS || terminated[me] || k_queue ?? [eval(awaited[me])]) -> goto abort }
	:: !changing -> sleep_on_latch()
	fi
}

/*
 * acquire.c: taking
 */

/* Nobody holds the lock: with K, insert the row. */
#define FREE_TO_TAKE	barged = arrived ?? [eval(me)] && !(arrived ? [eval(me)]); leave(); forget_row(); goto free

/*
 * Somebody does: who does not want to wait any longer, or would wait for himself,
 * gives K up.
 */
inline give_up_or_wait()
{
	forget_row();
	if
	:: !wait || late || own -> goto refused
	:: else
	fi
}

/*
 * With K: is the lock held?  The row is found with a snapshot; who is changing
 * it is looked up after that.  What was left behind is deleted without waiting.
 */
inline is_held()
{
	do
	:: atomic {
			excused[me] = 0;
			tfstate_find_holding();
			if
			:: seen == NONE -> FREE_TO_TAKE
			:: seen != NONE && row[seen].durable -> abandoned = row[seen].expired
#ifdef BUG_RECLAIM_LIVING
			:: seen != NONE && !row[seen].durable -> abandoned = 1
#else
			:: seen != NONE && !row[seen].durable ->
				abandoned = !(had_key && row[seen].session == me)
#endif
			fi;
			own = (row[seen].session == me)
		}
		atomic {
			changing_transaction();
			if
			:: !abandoned -> give_up_or_wait(); break
			:: else
			fi
		}
		atomic {
			if
			:: !unchanged[me]			/* TM_Deleted, TM_Updated */
			:: unchanged[me] && OTHER_CHANGES(seen) ->	/* TM_BeingModified */
#ifdef BUG_TAKE_CHANGING
				FREE_TO_TAKE
#else
				give_up_or_wait();
				excused[me] = !changing;
				break
#endif
			:: unchanged[me] && !OTHER_CHANGES(seen) ->
				assert(row[seen].inserter == me || holder != row[seen].who || row[seen].session != holder);
				row[seen].changer = me;
				row[seen].change = CLEARED
			fi
		}
	od
}

/* Leads to free or to refused. */
inline wait_until_free()
{
	do
#ifdef BUG_LOOK_BEFORE_RESET
	:: is_held();
		latch[me] = 0;
#else
	:: latch[me] = 0;
		is_held();
#endif
		tfstate_wait_as_first();
#ifdef BUG_NO_LOOK_AFTER_WAIT
		atomic { FREE_TO_TAKE }
#endif
#ifdef BUG_REQUEUE
		atomic { tfstate_release_tag() };
		atomic { if :: k_owner != NOBODY -> k_queue ! me :: else -> k_owner = me; k_xact = 1 fi };
		HAS_KEY;
#endif
	od
}

/* A new fence, on disk before anybody knows it. */
inline tfstate_next_fence()
{
	assert(!fence_repeats);
	p = 1;
	do
	:: p < PROCS ->
		later[p] = later[p] & ~BIT(me);
		later[me] = (drawn[p] -> later[me] | BIT(p) : later[me]);
		p++
	:: else -> break
	od;
	p = 0;
	drawn[me] = 1;
	passed[me] = 0
#ifdef BUG_FENCE_NOT_FLUSHED
	; unflushed_fence = 1
#endif
}

/* Insert the row. */
inline take()
{
	assert(!barged);
#ifndef BUG_FENCE_WITHOUT_KEY
	tfstate_next_fence();
#endif
	seen = (row[0].who == NOBODY -> 0 : 1);
	assert(row[seen].who == NOBODY);
	row[seen].who = me;
	row[seen].session = me;
	row[seen].durable = durable;
	row[seen].lease = durable && LEASES;
	row[seen].inserter = me;
	promote = promote || !durable
}

/* Leads to free or to refused. */
inline tfstate_acquire()
{
#ifdef BUG_FENCE_WITHOUT_KEY
	atomic { tfstate_next_fence() };
#endif
	atomic {
		had_key = HAS_KEY;
		tfstate_try_tag();
		if
		:: HAS_KEY -> goto have_key
		:: !HAS_KEY && wait -> k_queue ! me; arrived ! me
		:: !HAS_KEY && !wait -> forget_call(); goto idle
		fi
	}
	tfstate_wait_tag();
have_key:
	wait_until_free();
refused:
	atomic {
		leave();
		tfstate_release_tag();
		forget_call()
	}
	goto idle;
free:
	atomic {
		take();
		forget_call()
	}
	goto idle
}

/*
 * release.c: releasing and renewing
 */

/* tfstate_current_holding(): a row of a dead session is none. */
inline tfstate_current_holding()
{
	tfstate_find_holding();
	if
	:: seen != NONE && !row[seen].durable && !ALIVE(seen) -> seen = NONE; unchanged[me] = 0
	:: else
	fi
}

/* SIGTERM, and wait for S. */
inline terminate_session()
{
	atomic { terminated[row[seen].session] = ALIVE(seen) };
#ifndef BUG_TERMINATE_NO_WAIT
	if
	:: atomic { !ALIVE(seen) -> skip }
	:: atomic { (CANCELS || terminated[me]) && ALIVE(seen) -> goto abort }
	fi;
#endif
	skip
}

/* tfstate_unlock() and tfstate_force_release(), with force. */
inline tfstate_release()
{
	do
	:: atomic {
			tfstate_current_holding();
			if
			:: seen == NONE -> break
			:: seen != NONE && !force && !(row[seen].durable && row[seen].who == me) && row[seen].session != me ->
				break		/* not the owner */
			:: else
			fi
		}
		change_holding(RELEASED);
		if
		:: atomic { done ->
			done = 0;
			if
			:: row[seen].durable -> wake = 1
			:: !row[seen].durable && row[seen].session == me -> release = 1
			:: else -> live = 1
			fi;
#ifdef BUG_UNLOCK_EARLY
			if
			:: release -> release = 0; touched = 1; k_session = 0; LockRelease()
			:: else
			fi;
#endif
			break }
		:: atomic { !done -> skip }
		fi
	od;
	if
	:: atomic { live -> live = 0 }; terminate_session()
	:: else
	fi;
	atomic { forget_call() }
}

inline tfstate_renew_lease()
{
	do
	:: atomic {
			tfstate_current_holding();
			if
			:: seen == NONE -> break
			:: seen != NONE && row[seen].who != me -> break		/* lost */
			:: else
			fi
		}
		change_holding(RENEWED);
		if
		:: atomic { done -> done = 0; break }
		:: atomic { !done -> skip }
		fi
	od;
	atomic { forget_call() }
}

/*
 * commit.c
 */

inline before_commit()
{
	if
	:: promote -> assert(HAS_KEY); k_session++; promoted = 1
	:: else
	fi
}

/* Only who runs a transaction is found; nobody else needs it. */
inline wake_owner()
{
#ifndef BUG_NO_WAKE
	if
	:: k_owner != me -> latch[k_owner] = 1
	:: else
	fi
#endif
	skip
}

inline after_commit()
{
	atomic {
		if
		:: release -> assert(HAS_KEY && k_session > 0); k_session--; LockRelease()
		:: else
		fi;
		release = 0; promote = 0; promoted = 0; touched = 0
	}
	if
	:: atomic { wake ->
		wake = 0;
#ifndef BUG_WAKE_EARLY
		wake_owner();
#endif
		waking-- }
	:: else
	fi
}

inline after_abort()
{
	atomic {
		if
#ifndef BUG_PROMOTION_STAYS
		:: promoted -> k_session--; LockRelease()
#endif
		:: else
		fi;
		release = 0; promote = 0; promoted = 0; wake = 0; touched = 0
	}
}

/* PREPARE TRANSACTION: who has the tags and the rows from now on. */
inline PrepareTransaction()
{
	if
	:: HAS_KEY && k_xact > 0 -> k_owner = PREPARED
	:: else
	fi;
	seen = 0;
	do
	:: seen < 2 ->
		row[seen].inserter = (row[seen].inserter == me -> PREPARED : row[seen].inserter);
		row[seen].changer = (row[seen].changer == me -> PREPARED : row[seen].changer);
		seen++
	:: else -> break
	od;
	seen = NONE;
	p = 1;
	do
	:: p < PROCS -> awaited[p] = (awaited[p] == me -> PREPARED : awaited[p]); p++
	:: else -> break
	od;
	p = 0;
	drawn[PREPARED] = drawn[me]; passed[PREPARED] = passed[me]; later[PREPARED] = later[me];
	forget_fence(me);
	promote = 0; release = 0; wake = 0; touched = 0;
	prepared = OPEN
}

/* The end of a transaction gives back its tags, K and W in any order. */
inline ResourceOwnerRelease()
{
	atomic { end_transaction(me); awaited[me] = NOBODY; unchanged[me] = 0 }
	do
	:: atomic { HAS_KEY && k_xact > 0 -> k_xact = 0; LockRelease() }
	:: atomic { w_owner == me -> w_owner = NOBODY }
	:: !(HAS_KEY && k_xact > 0) && w_owner != me -> break
	od
}

/*
 * A session: one transaction after the other, until it ends, and then another
 * session in its place.
 */
proctype Session(byte me)
{
	bit durable, wait, force;	/* what is asked for */
	bit had_key, own, abandoned, changing, late, blocked, done, live, barged;
	bit promote, promoted, release, wake, touched;	/* what is pending */
	bit first;
	byte operations, p, seen = NONE;

again:
	{
	skip;
idle:
	atomic {
		assert(operations > 0 || w_owner != me && !QUEUED);
		assert(operations > 0 || HAS_KEY == (holder == me && holder_is_session));
		assert(operations > 0 || !HAS_KEY || k_xact == 0 && k_session == 1);
		if
		:: operations < OPERATIONS && !terminated[me] ->
			operations++;
			if
			:: SESSION_MODE && MAY_LOCK -> wait = 1; goto lock
			:: SESSION_MODE && MAY_LOCK -> goto lock
			:: DURABLE_MODE && MAY_LOCK -> durable = 1; wait = 1; goto lock
			:: DURABLE_MODE && MAY_LOCK -> durable = 1; goto lock
			:: row[0].who == me || row[1].who == me -> goto unlock
			:: FORCES && (row[0].who != NOBODY || row[1].who != NOBODY) -> force = 1; goto unlock
			:: LEASES && (row[0].lease && row[0].who == me || row[1].lease && row[1].who == me) -> goto renew
			:: DISCARDS && k_owner == me && k_session > 0 -> goto discard
			fi
		:: operations > 0 && !terminated[me] -> goto commit
		:: operations > 0 && (CANCELS || terminated[me]) -> goto abort
		:: operations > 0 && PREPARES && prepared == NO_TRANSACTION && !terminated[me] -> goto prepare
		:: operations == 0 && (ENDS || terminated[me]) -> goto end_session
		fi
	}
lock:
	tfstate_acquire();
unlock:
	tfstate_release();
	goto idle;
renew:
	tfstate_renew_lease();
	goto idle;
discard:
	release_session_tags();
	promote = 0;
	release = 0;
	goto idle;

	/* before_prepare() */
prepare:
	atomic {
		if
#ifndef BUG_PREPARE_SESSION
		:: promote || release || touched -> goto abort
#endif
		:: prepared != NO_TRANSACTION -> goto abort		/* enough of them */
		:: k_owner == me && k_session > 0 && k_xact > 0 -> goto abort	/* the server's own rule */
		:: else -> PrepareTransaction(); operations = 0; goto idle
		fi
	}

commit:
#ifdef BUG_WAKE_EARLY
	atomic { if :: wake -> wake_owner() :: else fi };
#endif
	atomic { before_commit() };
	if
	:: atomic { committing[me] = 1 }
	:: atomic { CANCELS -> goto abort }		/* a serialization failure, say */
	fi;
	atomic {
		committing[me] = 0;
		waking = waking + wake;
		make_visible(me)
	}
	after_commit();
	goto end;
abort:
	atomic {
		leave();
		undo(me);
		awaited[me] = NOBODY; asleep[me] = 0; excused[me] = 0;
		blocked = 0;
		forget_call()
	}
	after_abort();
end:
	ResourceOwnerRelease();
	atomic { operations = 0; latch[me] = 0; goto idle };

end_session:
	release_session_tags();
	atomic { terminated[me] = 0; goto idle }
	} unless { crashed[me] }
	atomic {
		crashed[me] = 0;
		operations = 0; first = 0; blocked = 0;
		forget_call();
		promote = 0; promoted = 0; release = 0; wake = 0; touched = 0;
		goto again
	}
}

/* What a crash leaves of a session's transaction and of the session. */
inline crash_session(x)
{
	if
	:: committing[x] -> make_visible(x)
	:: true -> undo(x)
	fi;
	committing[x] = 0; awaited[x] = NOBODY; unchanged[x] = 0; latch[x] = 0; terminated[x] = 0;
	asleep[x] = 0; excused[x] = 0; crashed[x] = 1
}

/* Rows of session mode are gone, or stay when it was a clean restart. */
inline crash_row(r, stay)
{
	row[r].session = 0;
	if
	:: row[r].who != NOBODY && !row[r].durable && !stay -> delete_row(r)
	:: row[r].who != NOBODY && row[r].durable && unflushed_lock && !stay -> delete_row(r)
	:: else
	fi
}

/*
 * kill -9, immediate shutdown, restart, and failover to a synchronous standby,
 * which all lose the tags.  A committed unlock is lost if it was not flushed.
 */
proctype Crash()
{
	byte p, x;
	bit stay;

end:
	do
	:: atomic {
		CRASHES && !crashed[1] && !crashed[2] && !crashed[SESSIONS] && prepared != ENDING ->
		x = 1;
		do
		:: x <= SESSIONS -> crash_session(x); x++
		:: else -> break
		od;
		x = 0;
		if :: stay = 0 :: stay = 1 fi;
		crash_row(0, stay);
		crash_row(1, stay);
		if
		:: holder_is_session -> holder = NOBODY; holder_is_session = 0
		:: else
		fi;
		if
		:: unflushed_unlock != NOBODY && !stay ->
			assert(!(COMMITTED(0) && row[0].durable) && !(COMMITTED(1) && row[1].durable));
			x = (row[0].who == NOBODY -> 0 : 1);
			delete_row(x);
			row[x].who = unflushed_unlock; row[x].durable = 1; row[x].lease = unflushed_lease;
			holder = unflushed_unlock
		:: true
		fi;
		unflushed_unlock = NOBODY; unflushed_lease = 0; unflushed_lock = 0;
		fence_repeats = fence_repeats || unflushed_fence && !stay;
		unflushed_fence = 0; stay = 0;
		if
		:: prepared == OPEN && k_owner == PREPARED -> k_xact = 1
		:: else -> k_owner = NOBODY; k_xact = 0
		fi;
		k_session = 0; w_owner = NOBODY; waking = 0; awaited[PREPARED] = NOBODY;
		do :: k_queue ? _ :: empty(k_queue) -> break od;
		do :: arrived ? _ :: empty(arrived) -> break od;
		x = 0
		}
	od
}

/*
 * The end of a prepared transaction, by whoever.  A commit of it wakes nobody,
 * but who sleeps then may have looked before the row was changed.
 */
proctype FinishPreparedTransaction()
{
	byte p;

end:
	do
	:: 	atomic {
		prepared == OPEN ->
		if
		:: true -> make_visible(PREPARED); excused[k_owner] = 1; unflushed_unlock = NOBODY; unflushed_lease = 0
		:: true -> undo(PREPARED)
		fi;
		prepared = ENDING
	}
	atomic {
		end_transaction(PREPARED);
		if
		:: k_owner == PREPARED -> k_xact = 0; LockRelease()
		:: else
		fi;
		prepared = NO_TRANSACTION
	}
	od
}

/* A lease expires. */
proctype Clock()
{
end:
	do
	:: atomic { COMMITTED(0) && row[0].lease && !row[0].expired ->
		row[0].expired = 1;
		holder = (holder_is_session -> holder : NOBODY) }
	:: atomic { COMMITTED(1) && row[1].lease && !row[1].expired ->
		row[1].expired = 1;
		holder = (holder_is_session -> holder : NOBODY) }
	od
}

#define FREE(r)		(!COMMITTED(r) || row[r].changer == NOBODY && !row[r].durable && !ALIVE(r))

/* Does somebody sleep who should not? */
proctype Monitor()
{
end:
	atomic { asleep[k_owner] && !latch[k_owner] && !excused[k_owner] && waking == 0 &&
			 FREE(0) && FREE(1) ->
		assert(false)	/* never reached */
	}
}

init
{
	byte s = 1;

	atomic {
		do
		:: s <= SESSIONS -> run Session(s); s++
		:: else -> break
		od;
		if :: CRASHES -> run Crash() :: else fi;
		if :: PREPARES -> run FinishPreparedTransaction() :: else fi;
		if :: LEASES -> run Clock() :: else fi;
		run Monitor()
	}
}

#ifdef SERVED
ltl served { [] ((arrived ?? [1]) -> <> !(arrived ?? [1])) }
#endif
