/* A Valgrind tool: hashes of the addresses that a part of a program uses, of instructions and of data.

   `pages` is the sequence of pages, as a host sees that takes them away and gives each back at its fault: an entry
   whenever instructions, or data, go on in another page. `code` and `data` are of every single address, and
   finer than any host sees. It starts and stops where the program says (page_marks.c). */
#include "pub_tool_basics.h"
#include "pub_tool_clreq.h"
#include "pub_tool_libcassert.h"
#include "pub_tool_libcbase.h"
#include "pub_tool_tooliface.h"
#include "pub_tool_transtab.h"

enum { PAGE_BITS = 12 };
enum { INSTRUMENT = VG_USERREQ_TOOL_BASE('P', 'T'), BEGIN, END };

static Bool instrumenting, tracing;
static struct { ULong pages, code, data, instructions, accesses; } seen;
static Addr code_page, data_page;

static inline ULong mixed(ULong hash, ULong value)
{
    hash = (hash ^ value) * 0x9E3779B97F4A7C15ULL;
    return hash ^ (hash >> 29);
}

static VG_REGPARM(1) void on_instruction(Addr address)
{
    if (!tracing) return;
    seen.instructions++;
    seen.code = mixed(seen.code, address);
    if (code_page == address >> PAGE_BITS) return;
    code_page = address >> PAGE_BITS;
    seen.pages = mixed(seen.pages, code_page << 1);
}

static VG_REGPARM(2) void on_access(Addr address, UWord size)
{
    if (!tracing) return;
    seen.accesses++;
    seen.data = mixed(seen.data, address);
    for (Addr page = address >> PAGE_BITS; page <= (address + size - 1) >> PAGE_BITS; page++) {
        if (data_page == page) continue;
        data_page = page;
        seen.pages = mixed(seen.pages, page << 1 | 1);
    }
}

static void access(IRSB *out, IRExpr *address, Int size, IRExpr *guard)
{
    IRExpr **arguments = mkIRExprVec_2(address, mkIRExpr_HWord(size));
    IRDirty *call = unsafeIRDirty_0_N(2, "on_access", VG_(fnptr_to_fnentry)(&on_access), arguments);
    if (guard) call->guard = guard;
    addStmtToIRSB(out, IRStmt_Dirty(call));
}

/* Every form in which Valgrind writes down that a statement touches memory. */
static void accesses(IRSB *out, IRStmt *st)
{
    switch (st->tag) {
    case Ist_WrTmp:
        if (st->Ist.WrTmp.data->tag == Iex_Load)
            access(out, st->Ist.WrTmp.data->Iex.Load.addr, sizeofIRType(st->Ist.WrTmp.data->Iex.Load.ty), NULL);
        break;
    case Ist_Store:
        access(out, st->Ist.Store.addr, sizeofIRType(typeOfIRExpr(out->tyenv, st->Ist.Store.data)), NULL);
        break;
    case Ist_StoreG: {
        IRStoreG *store = st->Ist.StoreG.details;
        access(out, store->addr, sizeofIRType(typeOfIRExpr(out->tyenv, store->data)), store->guard);
        break;
    }
    case Ist_LoadG: {
        IRType loaded = Ity_INVALID, wide = Ity_INVALID;
        typeOfIRLoadGOp(st->Ist.LoadG.details->cvt, &wide, &loaded);
        access(out, st->Ist.LoadG.details->addr, sizeofIRType(loaded), st->Ist.LoadG.details->guard);
        break;
    }
    case Ist_Dirty: {
        IRDirty *call = st->Ist.Dirty.details;
        if (call->mFx != Ifx_None) access(out, call->mAddr, call->mSize, call->guard);
        break;
    }
    case Ist_CAS: {
        IRCAS *swap = st->Ist.CAS.details;
        Int size = sizeofIRType(typeOfIRExpr(out->tyenv, swap->dataLo));
        access(out, swap->addr, swap->dataHi ? 2 * size : size, NULL);
        break;
    }
    case Ist_LLSC: tl_assert(0); /* not of this processor */
    default: break;
    }
}

static IRSB *instrument(VgCallbackClosure *closure, IRSB *in, const VexGuestLayout *layout,
                        const VexGuestExtents *extents, const VexArchInfo *host, IRType guest, IRType word)
{
    if (!instrumenting) return in;
    IRSB *out = deepCopyIRSBExceptStmts(in);
    for (Int i = 0; i < in->stmts_used; i++) {
        IRStmt *st = in->stmts[i];
        if (!st || st->tag == Ist_NoOp) continue;
        if (st->tag == Ist_IMark) {
            IRExpr **arguments = mkIRExprVec_1(mkIRExpr_HWord(st->Ist.IMark.addr));
            addStmtToIRSB(out, st);
            addStmtToIRSB(out, IRStmt_Dirty(unsafeIRDirty_0_N(
                1, "on_instruction", VG_(fnptr_to_fnentry)(&on_instruction), arguments)));
            continue;
        }
        accesses(out, st);
        addStmtToIRSB(out, st);
    }
    return out;
}

static Bool request(ThreadId thread, UWord *given, UWord *answer)
{
    switch (given[0]) {
    case INSTRUMENT: /* What ran before was not: to start a program takes far longer than what is looked at. */
        instrumenting = True;
        VG_(discard_translations_safely)(0x1000, ~(SizeT)0xfff, "page_trace");
        break;
    case BEGIN:
        VG_(memset)(&seen, 0, sizeof seen);
        code_page = data_page = 0;
        tracing = True;
        break;
    case END:
        tracing = False;
        VG_(memcpy)((void *)given[1], &seen, sizeof seen);
        break;
    default: return False;
    }
    *answer = 1;
    return True;
}

static void after_options(void) {}
static void finish(Int code) {}

static void before_options(void)
{
    VG_(details_name)("page_trace");
    VG_(details_version)(NULL);
    VG_(details_description)("hashes of the addresses that a part of a program uses");
    VG_(details_copyright_author)("Chiron");
    VG_(details_bug_reports_to)("Chiron");
    VG_(basic_tool_funcs)(after_options, instrument, finish);
    VG_(needs_client_requests)(request);
}

VG_DETERMINE_INTERFACE_VERSION(before_options)
