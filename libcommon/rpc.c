/* SPDX-License-Identifier: MIT */
#include "libcommon/rpc.h"
