/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/lab_cli.h"

int main(int argc, char *argv[])
{
    return lab_main(argc, argv);
}
